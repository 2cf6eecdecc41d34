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
def matmuls(x: jax.Array, weight_DO: jax.Array, count: int, precision=None) -> list[jax.Array]:
    """x times each of `count` equal parts of the weight: arrays (…, O / count)."""
    return jnp.split(jnp.matmul(x, weight_DO.astype(x.dtype), precision=precision), count, axis=-1)


def dot_general(implementation: str):
    """`jax.lax.dot_general` for the hook of Flax's `nn.Dense`: its product is `matmul`'s."""

    def product(x, weight, dimension_numbers, precision=None, preferred_element_type=None):
        if dimension_numbers == (((x.ndim - 1,), (0,)), ((), ())) and weight.ndim == 2 and not preferred_element_type:
            return matmul(x, weight, precision, implementation=implementation)
        return jax.lax.dot_general(x, weight, dimension_numbers, precision, preferred_element_type)

    return product
