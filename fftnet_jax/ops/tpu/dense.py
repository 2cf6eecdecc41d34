"""A product of less than a tile's rows, as in decoding, in a full tile.

XLA's TPU compiler makes sums of products on the vector unit of one row's product: 536,000 cycles for the head of 768 ×
50,257 and one row, 26,000 in a tile, where reading it takes 141,000 (v5e, jax 0.10.2, estimated).
"""

import jax
import jax.numpy as jnp

from fftnet_jax.ops import dense

ROWS = 8


@dense.matmul.implements("tpu")
def matmul(x: jax.Array, weight_DO: jax.Array, precision=None) -> jax.Array:
    rows = x.size // x.shape[-1]
    if rows >= ROWS:
        return dense.matmul.reference(x, weight_DO, precision)
    x_RD = jnp.pad(x.reshape(rows, -1), ((0, ROWS - rows), (0, 0)))
    return dense.matmul.reference(x_RD, weight_DO, precision)[:rows].reshape(*x.shape[:-1], -1)


@dense.matmuls.implements("tpu")
def matmuls(x: jax.Array, weight_DO: jax.Array, count: int, precision=None) -> list[jax.Array]:
    return jnp.split(matmul(x, weight_DO, precision), count, axis=-1)
