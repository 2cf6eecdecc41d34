"""Matrix products with gradients that suit the CPU.

JAX writes the gradient of a product as the transpose of another one, and XLA's CPU then either reads the result
across its rows or takes a slower kernel.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec

LOOP_FROM = 256  # rows from which a loop pays


@jax.custom_vjp
def matmul(x: jax.Array, weight_DO: jax.Array) -> jax.Array:
    """(…, D) and (D, O) → (…, O), in the dtype of x."""
    return x @ weight_DO.astype(x.dtype)


def _forward(x, weight_DO):
    return matmul(x, weight_DO), (x, weight_DO)


def _backward(residuals, dy):
    # The barrier keeps the transpose from being made, and held, in the forward pass already.
    (x, weight_DO), dy = jax.lax.optimization_barrier((residuals, dy))
    dx = dy @ weight_DO.astype(dy.dtype).T
    x_DR = _transposed(x.reshape(-1, x.shape[-1]))
    dweight_DO = jnp.matmul(x_DR, dy.reshape(-1, dy.shape[-1]), preferred_element_type=jnp.float32)
    return dx, dweight_DO.astype(weight_DO.dtype)


matmul.defvjp(_forward, _backward)


@jax.custom_vjp
def matmuls(x: jax.Array, weights: list[jax.Array]) -> list[jax.Array]:
    """`matmul` of the same x with several weights; on CPU their gradients wait for one another, to save memory."""
    return [matmul(x, weight_DO) for weight_DO in weights]


def _backward_in_turn(residuals, dys):
    x, weights = residuals
    dx, total_dx, dweights = None, 0.0, []
    for weight_DO, dy in zip(weights, dys, strict=True):
        if dx is not None and jax.default_backend() == "cpu":
            dy = after(dy, dx[..., :1, :1])  # not the weight's gradient, which devices would have to add up first
        dx, dweight_DO = _backward((x, weight_DO), dy)
        total_dx = total_dx + dx
        dweights.append(dweight_DO)
    return total_dx, dweights


matmuls.defvjp(lambda x, weights: (matmuls(x, weights), (x, weights)), _backward_in_turn)


def after(x: jax.Array, other: jax.Array) -> jax.Array:
    """x, which XLA can't compute before `other`, a few finite numbers that broadcast against x; it does as it likes
    otherwise, and then holds what both need at once."""
    return x + jnp.minimum(jnp.abs(other), 0.0).reshape((1,) * (x.ndim - other.ndim) + other.shape).astype(x.dtype)


@jax.custom_vjp
def matmul_by_bin(X_FRBCE: jax.Array, H_FEO: jax.Array) -> jax.Array:
    """A product for each bin F of a spectrum: (F, R, B, C, E) and (F, E, O) → (F, R, B, C, O)."""
    return _by_bin(X_FRBCE, H_FEO, (4,), (1,))


def _by_bin(a, b, axes_a, axes_b):
    # Not einsum, which orders the axes that are summed over in its own way and has an operand copied for that.
    return jax.lax.dot_general(a, b, ((axes_a, axes_b), ((0,), (0,))))


def _by_bin_forward(X_FRBCE, H_FEO):
    return matmul_by_bin(X_FRBCE, H_FEO), (X_FRBCE, H_FEO)


def _by_bin_backward(residuals, dY_FRBCO):
    X_FRBCE, H_FEO = residuals
    return _by_bin(dY_FRBCO, H_FEO, (4,), (2,)), _by_bin(X_FRBCE, dY_FRBCO, (1, 2, 3), (1, 2, 3))


matmul_by_bin.defvjp(_by_bin_forward, _by_bin_backward)


def map_first_axis(matrix: np.ndarray, x: jax.Array) -> jax.Array:
    """A constant linear map (F, T) of the first axis: (T, …) → (F, …)."""

    @jax.custom_vjp
    def apply(x):
        return jnp.tensordot(jnp.asarray(matrix, x.dtype), x, axes=1)

    apply.defvjp(lambda x: (apply(x), None), lambda _, dy: (map_first_axis(matrix.T, dy),))
    return apply(x)


def sum_first_axis(x: jax.Array) -> jax.Array:
    """(T, …) → (…); on CPU a product, for XLA adds up a few long rows there tens of times slower than it multiplies."""
    if jax.default_backend() != "cpu":
        return x.sum(0)
    return map_first_axis(np.ones((1, len(x))), x)[0]


@jax.custom_vjp
def add_to_each(x: jax.Array, y: jax.Array) -> jax.Array:
    """x (B, …) plus y (1, …), whose gradient is `sum_first_axis`."""
    return x + y


add_to_each.defvjp(lambda x, y: (x + y, None), lambda _, dz: (dz, sum_first_axis(dz)[None]))


def _transposed(x_RD):
    """x^T, as an array that lies in memory, for which XLA's CPU has a faster product."""
    if jax.default_backend() != "cpu":
        return x_RD.T
    if len(x_RD) < LOOP_FROM:
        return jax.lax.optimization_barrier(x_RD.T)
    return _transposed_by_device(x_RD)


def in_memory(x: jax.Array, axis: int = 0) -> jax.Array:
    """x, which XLA's CPU computes by itself and not within what reads it: for a transpose on either side of that, it
    would go across rows, and compute all that x is made of anew. No device may hold a part of `axis` alone."""
    if jax.default_backend() != "cpu":
        return x
    # What a loop carries lies in memory. This one does nothing, twice, for a loop of a single turn is none. A transpose
    # inside of it would be ten times slower.
    first = jax.lax.slice_in_dim(x, 0, 1, axis=axis)
    return jax.lax.fori_loop(0, 2, lambda _, x: jax.lax.dynamic_update_slice_in_dim(x, first, 0, axis), x)


@custom_vmap
def _by_device(x_RD):
    """Each device of a mesh transposes its own rows; XLA would gather those that a loop takes slices of."""
    return _partitioned(x_RD)


@_by_device.def_vmap
def _(axis_size, in_batched, x_YRD):
    return x_YRD.swapaxes(1, 2), True


@jax.custom_vjp  # for second derivatives
def _transposed_by_device(x_RD):
    return _by_device(x_RD)


_transposed_by_device.defvjp(lambda x_RD: (_by_device(x_RD), None), lambda _, dy_DR: (dy_DR.T,))


def _local(x_RD):
    return jax.lax.optimization_barrier((in_memory(x_RD) if len(x_RD) > 1 else x_RD).T)


def _place(mesh, shapes, _):
    rows, columns = (*shapes[0].sharding.spec, None, None)[:2]
    input_, output = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((rows, columns), (columns, rows)))
    return mesh, _local, output, (input_,)


_partitioned = custom_partitioning(_local)
_partitioned.def_partition(partition=_place, sharding_rule="r d -> d r")
