"""Products whose gradient for the weight suits XLA's CPU.

JAX writes that gradient as the transpose of another product, and XLA then reads across its rows:
experiments/shakespeare takes 25% longer a step, original B 4% (2 cores of an Intel Xeon, jax 0.10.2, 2026-11-27;
`python -m benchmarks.train_step` with `matmul` as its definition).
"""

from functools import partial

import jax
import jax.numpy as jnp

from fftnet_jax.ops import dense
from fftnet_jax.ops.linear import after, linear

LOOP_FROM = 256  # rows from which a loop pays


@dense.matmul.implements("cpu")
def matmul(x: jax.Array, weight_DO: jax.Array, precision=None) -> jax.Array:
    def product(x, weight_DO):
        return jnp.matmul(x, weight_DO.astype(x.dtype), precision=precision)

    def transpose(x, dy):
        return _weight_gradient(x, dy, precision).astype(weight_DO.dtype)

    return linear(product, transpose, x, weight_DO)


@dense.matmuls.implements("cpu")
def matmuls(x: jax.Array, weight_DO: jax.Array, count: int, precision=None) -> list[jax.Array]:
    # Slices of one wide array would cost more than the wide product saves: 5% of a step of experiments/shakespeare.
    return _matmuls(x, jnp.split(weight_DO, count, axis=1), precision)


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def _matmuls(x, weights, precision):
    return [jnp.matmul(x, weight_DO.astype(x.dtype), precision=precision) for weight_DO in weights]


@_matmuls.defjvp
def _(precision, primals, tangents):
    (x, weights), (dx, dweights) = primals, tangents
    dtypes = [weight_DO.dtype for weight_DO in weights]

    def of_x(weights, x):
        return _matmuls(x, weights, precision)

    def of_weights(x, weights):
        return _matmuls(x, weights, precision)

    def x_gradient(weights, dys):
        parts = []
        for weight_DO, dy in zip(weights, dys, strict=True):
            dy = after(dy, parts[-1][..., :1, :1]) if parts else dy
            parts.append(jnp.matmul(dy, weight_DO.astype(dy.dtype).T, precision=precision))
        return sum(parts)

    def weight_gradients(x, dys):
        parts = []
        for dtype, dy in zip(dtypes, dys, strict=True):
            dy = after(dy, parts[-1][:1, :1]) if parts else dy
            parts.append(_weight_gradient(x, dy, precision).astype(dtype))
        return parts

    moved = linear(of_x, x_gradient, weights, dx), linear(of_weights, weight_gradients, x, dweights)
    return _matmuls(x, weights, precision), [a + b for a, b in zip(*moved, strict=True)]


def _weight_gradient(x, dy, precision):
    # The barrier keeps the transpose from being made, and held, in the forward pass already.
    x, dy = jax.lax.optimization_barrier((x, dy))
    x_DR = transposed(x.reshape(-1, x.shape[-1]))
    return jnp.matmul(x_DR, dy.reshape(-1, dy.shape[-1]), precision=precision)


def transposed(x_RD: jax.Array) -> jax.Array:
    """x^T, as an array that lies in memory, for which XLA's CPU has a faster product."""
    return jax.lax.optimization_barrier((in_memory(x_RD) if len(x_RD) >= LOOP_FROM else x_RD).T)


def in_memory(x: jax.Array, axis: int = 0) -> jax.Array:
    """x, which XLA's CPU computes by itself and not within what reads it: for a transpose on either side of that, it
    would go across rows, and compute all that x is made of anew (10% of a step of experiments/shakespeare)."""
    # What a loop carries lies in memory. This one does nothing, twice, for a loop of a single turn is none. A transpose
    # inside of it would be ten times slower.
    first = jax.lax.slice_in_dim(x, 0, 1, axis=axis)
    return jax.lax.fori_loop(0, 2, lambda _, x: jax.lax.dynamic_update_slice_in_dim(x, first, 0, axis), x)
