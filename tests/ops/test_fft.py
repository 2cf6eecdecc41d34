import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fftnet_jax.spectral import causal_convolution, irfft, rfft


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("length, size", [(1, 1), (5, 8), (8, 8), (9, 9), (7, 4), (2, 2)])
def test_real_ffts_and_their_gradients_are_jaxs(length, size):
    x, X_ = normal(0, 2, 3, length), normal(1, 2, 2, 3, size // 2 + 1)
    X = (X_[0] + 1j * X_[1]).astype(np.complex64)
    for ours, theirs, argument in ((rfft, jnp.fft.rfft, x), (irfft, jnp.fft.irfft, X)):
        y, pullback = jax.vjp(lambda a, f=ours: f(a, size), argument)
        wanted, their_pullback = jax.vjp(lambda a, f=theirs: f(a, size), argument)
        np.testing.assert_allclose(y, wanted, atol=1e-5)
        g = normal(2, *y.shape).astype(y.dtype) * (1 + 1j if jnp.iscomplexobj(y) else 1)
        np.testing.assert_allclose(pullback(g)[0], their_pullback(g)[0], atol=1e-5)


def test_vmap_of_a_convolution():
    u, h = normal(0, 3, 2, 40, 4), normal(1, 40, 4)
    found = jax.vmap(lambda u: causal_convolution(u, h, "fft"))(u)
    wanted = np.stack([causal_convolution(part, h, "fft") for part in u])
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_long_sequences_in_groups_of_channels(monkeypatch):
    u, h = normal(0, 2, 50, 6), normal(1, 50, 6)
    wanted = np.asarray(causal_convolution(u, h, "fft"))
    monkeypatch.setattr("fftnet_jax.spectral.convolution.LARGEST_SPECTRUM", 2 * 108 * 4)
    grouped = jax.make_jaxpr(lambda u, h: causal_convolution(u, h, "fft"))(u, h)
    assert "scan" in str(grouped)
    np.testing.assert_allclose(causal_convolution(u, h, "fft"), wanted, atol=1e-5)
