"""The head in decoding: a few rows times a wide constant matrix."""

import jax
import jax.numpy as jnp

from fftnet_jax.ops.int8 import Int8, weight_product
from fftnet_jax.ops.select import operation


@operation
def head_parts(weight_DV: jax.Array) -> list[jax.Array]:
    """The head as the arrays that `head_logits` reads; computed once for all tokens."""
    return [weight_DV]


def head_logits(x: jax.Array, parts: list[jax.Array | Int8], precision=None, *, implementation="auto") -> jax.Array:
    """x (…, D) times the head that was handed to `head_parts`, prepared or not: (…, V) float32."""
    logits = [weight_product(x, part_DV, precision, implementation=implementation) for part_DV in parts]
    return jnp.concatenate(logits, axis=-1).astype(jnp.float32)
