"""The long convolution's kernels, run by Pallas's interpreter, give the definition's values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fftnet_jax import ops
from fftnet_jax.ops.tpu import gated, long_kernel

WIDTH = 128


def drawn(length, modes, dtype, channels, taps):
    rng = np.random.default_rng(0)
    normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
    decay, frequency = np.exp(rng.uniform(-5, -1, modes)), rng.uniform(-3, 3, modes)
    found = ops.Modes(*(jnp.asarray(x, jnp.float32) for x in (decay, frequency)), 0.3 * normal(2 * modes, WIDTH))
    x, dy = normal(2, length, channels).astype(dtype), normal(2, length, WIDTH)
    return x, normal(taps, channels), found, normal(WIDTH), dy


def with_gradients(function, arrays, dy):
    @jax.jit
    def run(*arrays):
        y, pull = jax.vjp(function, *arrays)
        return [y, *jax.tree.leaves(pull(dy.astype(y.dtype)))]

    return [np.asarray(leaf, np.float32) for leaf in run(*arrays)]


def assert_same(found, wanted, tolerance):
    for new, old in zip(found, wanted, strict=True):
        assert np.abs(new - old).max() <= tolerance * np.abs(old).max()


@pytest.mark.parametrize("length, modes, dtype, tolerance", [(290, 5, "float32", 1e-5), (150, 16, "bfloat16", 2e-2)])
def test_gated_convolution(length, modes, dtype, tolerance, monkeypatch):
    """Over several tiles, each fetched by itself; padded tokens and modes change nothing."""
    monkeypatch.setattr(long_kernel, "CHUNK", 128)
    *arrays, dy = drawn(length, modes, dtype, 3 * WIDTH, taps=3)

    def plain(z_BNE, *rest):
        return ops.gated_convolution.reference(z_BNE.astype(jnp.float32), *rest)

    found = with_gradients(lambda *arrays: gated.convolve(*arrays, interpret=True), arrays, dy)
    assert_same(found, with_gradients(plain, arrays, dy), tolerance)


def test_long_convolution():
    """Without gates, from a state to a state, in one tile that is smaller than others."""
    x, _, modes, skip, dy = drawn(21, 3, "float32", WIDTH, taps=1)
    state = jnp.asarray(np.random.default_rng(1).normal(size=(2, 6, WIDTH)), jnp.float32)

    def run(convolve, **options):
        def function(*arrays):
            y_BND, after = convolve(*arrays, start=1000, **options)
            return y_BND + after.sum(1, keepdims=True)

        return with_gradients(function, (x, modes, skip, state), dy)

    found = run(long_kernel.convolve, interpret=True)
    assert_same(found, run(ops.long_convolution.reference), 1e-5)


@pytest.mark.parametrize("width, kernels", [(128, 2), (96, 0)])
def test_a_program_for_a_tpu_has_one_kernel_forward_and_one_backward(width, kernels):
    def loss(z_BNE, taps_KE, modes, skip_D):
        return ops.gated_convolution(z_BNE, taps_KE, modes, skip_D, implementation="tpu").sum()

    shape = lambda *sizes: jax.ShapeDtypeStruct(sizes, jnp.float32)  # noqa: E731
    arrays = shape(2, 100, 3 * width), shape(4, 3 * width), ops.Modes(shape(4), shape(4), shape(8, width)), shape(width)
    traced = jax.jit(jax.grad(loss, (0, 1, 2, 3))).trace(*arrays)
    assert traced.lower(lowering_platforms=("tpu",)).as_text().count("@tpu_custom_call") == kernels
    assert traced.lower(lowering_platforms=("cpu",)).as_text().count("@tpu_custom_call") == 0
