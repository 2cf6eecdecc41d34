"""Attention some queries at a time: scores of later keys are not computed, and the others stay in a CPU's cache."""

import jax
import jax.numpy as jnp

from fftnet_jax.ops.attention import causal_attention

LEAST_QUERIES, MOST_PIECES = 128, 16  # at a time, and in how many programs for a whole sequence


@causal_attention.implements("cpu")
@jax.jit
def attend(q_BNHK: jax.Array, k_BNGK: jax.Array, v_BNGK: jax.Array) -> jax.Array:
    batch, length, heads, head_dim = q_BNHK.shape
    q_BGRNK = q_BNHK.reshape(batch, length, k_BNGK.shape[2], -1, head_dim).transpose(0, 2, 3, 1, 4)
    k_BGNK, v_BGNK = k_BNGK.swapaxes(1, 2), v_BNGK.swapaxes(1, 2)
    count = max(LEAST_QUERIES, -(-length // MOST_PIECES))
    pieces = [(start, min(start + count, length)) for start in range(0, length, count)]
    y = [_attend_last(q_BGRNK[..., start:n, :], k_BGNK[:, :, :n], v_BGNK[:, :, :n]) for start, n in pieces]
    return jnp.concatenate(y, axis=3).transpose(0, 3, 1, 2, 4).reshape(batch, length, heads, head_dim)


def _attend_last(q_BGRMK, k_BGNK, v_BGNK):
    """What the last M of N places see of all up to their own."""
    queries, keys = q_BGRMK.shape[3], k_BGNK.shape[2]
    scores = jnp.einsum("bgrmk,bgnk->bgrmn", q_BGRMK, k_BGNK, preferred_element_type=jnp.float32)
    seen_MN = jnp.tri(queries, keys, keys - queries, dtype=bool)
    scores = jnp.where(seen_MN, scores * q_BGRMK.shape[-1] ** -0.5, -jnp.inf)
    weights = jnp.exp(scores - scores.max(axis=-1, keepdims=True))
    y = jnp.einsum("bgrmn,bgnk->bgrmk", weights.astype(v_BGNK.dtype), v_BGNK, preferred_element_type=jnp.float32)
    return (y / weights.sum(axis=-1, keepdims=True)).astype(v_BGNK.dtype)
