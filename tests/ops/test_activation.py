import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fftnet_jax.spectral import modrelu


def complex_normal(seed, shape):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


@given(seed=st.integers(0, 99))
def test_values(seed):
    z, bias = complex_normal(seed, (2, 9, 4)), np.array([-1.0, -0.1, 0.0, 0.7], np.float32)
    wanted = np.maximum(np.abs(z) + bias, 0) * np.exp(1j * np.angle(z))
    found = modrelu(z, bias[None, None])
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert (np.abs(found[..., 0]) == 0).any()


def test_zero_stays_zero():
    np.testing.assert_array_equal(modrelu(jnp.zeros(3, jnp.complex64), jnp.array([-1.0, 0.0, 2.0])), np.zeros(3))


def test_gradients_are_finite_at_zero():
    def loss(re, im, bias):
        z = modrelu(jax.lax.complex(re, im), bias)
        return (z.real + 2 * z.imag).sum()

    for bias in (-0.5, 0.0, 0.5):
        for grad in jax.grad(loss, argnums=(0, 1, 2))(jnp.zeros(3), jnp.zeros(3), jnp.full(3, bias)):
            assert np.isfinite(grad).all()


@given(seed=st.integers(0, 99))
def test_gradients_are_finite_differences(seed):
    z, weight = complex_normal(seed, 6), complex_normal(seed + 1, 6)
    bias = np.where(np.abs(np.abs(z) - 0.5) < 0.05, 0.5, -0.5)  # away from the kink

    def loss(re, im, bias):
        return (modrelu(jax.lax.complex(re, im), bias) * jnp.asarray(weight)).real.sum()

    def exact(re, im, bias):
        z = re + 1j * im
        return (np.maximum(np.abs(z) + bias, 0) * z / np.abs(z) * weight).real.sum()

    arguments = [z.real.astype(np.float64), z.imag.astype(np.float64), bias]
    found = jax.grad(loss, argnums=(0, 1, 2))(*(jnp.asarray(a, jnp.float32) for a in arguments))
    for index, grad in enumerate(found):
        for place in range(6):
            low, high = ([a.copy() for a in arguments] for _ in range(2))
            low[index][place] -= 1e-6
            high[index][place] += 1e-6
            wanted = (exact(*high) - exact(*low)) / 2e-6
            np.testing.assert_allclose(grad[place], wanted, atol=2e-4, rtol=1e-4)
