"""Kernels in place of functions: every derivative, and in programs for a TPU only."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fftnet_jax.ops.kernel import kernel
from fftnet_jax.ops.select import on_tpu


def plain(x, w):
    return jnp.sin(x) * w


def counted():
    """`plain` by functions that count how often they are traced."""
    calls = {"forward": 0, "backward": 0}

    def forward(x, w):
        calls["forward"] += 1
        return plain(x, w), {"cos": jnp.cos(x)}

    def backward(arrays, kept, dy):
        calls["backward"] += 1
        return dy * kept["cos"] * arrays[1], dy * jnp.sin(arrays[0])

    return kernel(plain, forward, backward), calls


X, W = (np.random.default_rng(seed).normal(size=5).astype(np.float32) for seed in (0, 1))


@pytest.mark.parametrize(
    "derivative",
    [
        lambda f: jax.grad(lambda x, w: f(x, w).sum(), (0, 1)),
        lambda f: lambda x, w: jax.jvp(f, (x, w), (w, x)),
        lambda f: jax.hessian(lambda x, w: f(x, w).sum(), (0, 1)),
        lambda f: jax.grad(lambda x, w: jax.grad(lambda x: f(x, w).sum())(x).sum(), (0, 1)),
        lambda f: jax.vmap(jax.grad(lambda x, w: f(x, w).sum(), (0, 1))),
        lambda f: lambda x, w: jax.lax.scan(lambda c, _: (f(c, w), None), x, None, length=3)[0],
    ],
)
def test_every_derivative_is_the_plain_functions(derivative):
    found, calls = counted()
    for new, old in zip(*(jax.tree.leaves(jax.jit(derivative(f))(X, W)) for f in (found, plain)), strict=True):
        np.testing.assert_allclose(new, old, atol=1e-6)
    assert calls["forward"]


def test_a_gradient_is_by_the_backward_function():
    found, calls = counted()
    jax.grad(lambda x: found(x, W).sum())(X)
    assert calls == {"forward": 1, "backward": 1}


def test_only_programs_for_a_tpu_have_the_kernel():
    function = jax.jit(lambda x: on_tpu(lambda x: jnp.sin(x), lambda x: jnp.cos(x), x))
    np.testing.assert_allclose(function(X), np.cos(X), rtol=1e-6)
    np.testing.assert_allclose(on_tpu(jnp.sin, jnp.cos, X), np.cos(X), rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(lambda x: on_tpu(jnp.sin, jnp.cos, x))(X), np.cos(X), rtol=1e-6)
    texts = [function.trace(X).lower(lowering_platforms=(platform,)).as_text() for platform in ("tpu", "cpu", "cuda")]
    assert ["stablehlo.sine" in text for text in texts] == [True, False, False]
