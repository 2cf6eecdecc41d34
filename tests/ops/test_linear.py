"""A written transpose serves reverse mode, and no other kind of derivative minds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fftnet_jax.ops.linear import linear

X, W = (np.random.default_rng(seed).normal(size=shape).astype(np.float32) for seed, shape in ((0, (5, 4)), (1, (4, 3))))


def product(x, w):
    return linear(lambda x, w: x @ w, lambda x, dy: x.T @ dy, x, w)


def loss_of(product):
    return lambda x, w: jnp.sin(product(x, w)).sum()


def in_a_scan(product):
    def turn(carry, _):
        y = product(carry, W)
        return jnp.tanh(y @ W.T), y

    return jax.grad(lambda x: jax.lax.scan(turn, x, None, length=3)[1].sum())(X)


WAYS = {
    "gradient": lambda f: jax.grad(loss_of(f), (0, 1))(X, W),
    "forward": lambda f: jax.jvp(f, (X, W), (X, W)),
    "forward, input alone": lambda f: jax.jvp(lambda x: f(x, W), (X,), (X,)),
    "hessian": lambda f: jax.jit(jax.hessian(loss_of(f), (0, 1)))(X, W),
    "reverse over reverse": lambda f: jax.jacrev(jax.jacrev(loss_of(f), 1), 1)(X, W),
    "reverse over forward": lambda f: jax.jacrev(jax.jacfwd(loss_of(f), 1), 1)(X, W),
    "vmap over inputs": lambda f: jax.vmap(jax.grad(loss_of(f), (0, 1)), (0, None))(jnp.stack([X, 2 * X]), W),
    "vmap over weights": lambda f: jax.vmap(jax.grad(loss_of(f), (0, 1)), (None, 2))(X, jnp.stack([W, 2 * W], 2)),
    "scan": in_a_scan,
    "checkpoint": lambda f: jax.grad(jax.checkpoint(loss_of(f)))(X, W),
}


@pytest.mark.parametrize("way", WAYS)
def test_derivatives_of_every_kind(way):
    found, wanted = (jax.tree.leaves(WAYS[way](f)) for f in (product, jnp.matmul))
    for new, old in zip(found, wanted, strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-4, atol=1e-5)


def test_the_transpose_is_the_one_that_was_written():
    marked = lambda x, w: linear(lambda x, w: x @ w, lambda x, dy: 7 * (x.T @ dy), x, w)  # noqa: E731
    found, wanted = (jax.grad(lambda w, f=f: f(X, w).sum())(W) for f in (marked, jnp.matmul))
    np.testing.assert_allclose(found, 7 * wanted, rtol=1e-5)
    np.testing.assert_allclose(jax.jvp(lambda w: marked(X, w), (W,), (W,))[1], X @ W, rtol=1e-5)


def test_within_shard_map_that_checks_what_varies():
    mesh = jax.make_mesh((1,), ("x",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:1])
    spec = jax.sharding.PartitionSpec()
    step = jax.shard_map(lambda x, w: jax.grad(loss_of(product), 1)(x, w), mesh=mesh, in_specs=spec, out_specs=spec)
    np.testing.assert_allclose(jax.jit(step)(X, W), jax.grad(loss_of(jnp.matmul), 1)(X, W), rtol=1e-5)
