"""The head in decoding: a few rows times a wide constant matrix."""

import jax
import jax.numpy as jnp

from fftnet_jax.ops.select import operation


@operation
def head_parts(weight_DV: jax.Array) -> list[jax.Array]:
    """The head as the arrays that `head_logits` reads; computed once for all tokens."""
    return [weight_DV]


def head_logits(x_BD: jax.Array, parts: list[jax.Array], precision=None) -> jax.Array:
    """x times the head that was handed to `head_parts`: (B, V) float32."""
    logits = [jnp.matmul(x_BD, part_DV, precision=precision) for part_DV in parts]
    return jnp.concatenate(logits, axis=1).astype(jnp.float32)
