"""Causal attention of whole sequences."""

import jax

from fftnet_jax.ops.select import operation


@operation
def causal_attention(q_BNHK: jax.Array, k_BNGK: jax.Array, v_BNGK: jax.Array) -> jax.Array:
    """Softmax attention to places up to one's own: (B, N, H, K), keys and values of G ≤ H heads, → (B, N, H, K)."""
    return jax.nn.dot_product_attention(q_BNHK, k_BNGK, v_BNGK, is_causal=True)
