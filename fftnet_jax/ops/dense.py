"""Products of dense layers: (…, D) and (D, O) → (…, O), in the dtype of x, at the precision that the layer asks for."""

import jax
import jax.numpy as jnp

from fftnet_jax.ops.select import operation


@operation
def matmul(x: jax.Array, weight_DO: jax.Array, precision=None) -> jax.Array:
    """x · weight.

    Args:
      precision: of the product, as JAX names it; None for the default.
    """
    return jnp.matmul(x, weight_DO.astype(x.dtype), precision=precision)


@operation
def matmul_outputs_first(x: jax.Array, weight_OD: jax.Array, precision=None) -> jax.Array:
    """x · weight^T: a weight that lies the other way round, without a transpose."""
    return jax.lax.dot_general(x, weight_OD.astype(x.dtype), (((x.ndim - 1,), (1,)), ((), ())), precision)


@operation
def matmuls(x: jax.Array, weight_DO: jax.Array, count: int, precision=None) -> list[jax.Array]:
    """x times each of `count` equal parts of the weight: arrays (…, O / count)."""
    return jnp.split(jnp.matmul(x, weight_DO.astype(x.dtype), precision=precision), count, axis=-1)
