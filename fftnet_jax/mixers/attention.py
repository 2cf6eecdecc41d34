"""Softmax attention behind the mixer's signature: the baseline, and a part of hybrids."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class Attention(nn.Module):
    """Causal multi-head attention with rotary positions: (B, N, D) → (B, N, D).

    Source: Vaswani et al. 2017; rotary positions from Su et al. 2021 (arXiv 2104.09864), base 10,000.
    """

    width: int
    num_heads: int = 4
    dtype: jnp.dtype = jnp.float32

    causal = True

    def setup(self):
        self.qkv = nn.Dense(3 * self.width, use_bias=False, dtype=self.dtype)
        self.out = nn.Dense(self.width, use_bias=False, dtype=self.dtype)

    def __call__(self, x_BND: jax.Array) -> jax.Array:
        q, k, v = self._heads(x_BND, 0)
        return self._merge(jax.nn.dot_product_attention(q, k, v, is_causal=True))

    @nn.nowrap
    def init_cache(self, batch: int, length: int) -> dict:
        """Keys and values (B, L, H, D/H) of the last `length` places, how many places there were, and the left pads."""
        shape = (batch, length, self.num_heads, self.width // self.num_heads)
        return {
            "keys": jnp.zeros(shape, self.dtype),
            "values": jnp.zeros(shape, self.dtype),  # not the same array: a caller may donate the cache
            "position": jnp.zeros((), jnp.int32),
            "pads": jnp.zeros((batch,), jnp.int32),
        }

    def prefill(self, x_BND: jax.Array, cache: dict, pads_B: jax.Array | None = None) -> tuple[jax.Array, dict]:
        """Outputs for the next N tokens, and the cache after them; see `pads` for `pads_B`."""
        pads_B = cache["pads"] if pads_B is None else pads_B
        start, length = cache["position"], cache["keys"].shape[1]
        place_N = start + jnp.arange(x_BND.shape[1])
        q, k, v = self._heads(x_BND, start)
        keys = cache["keys"].at[:, place_N % length].set(k)  # round and round: tokens take the places of pads
        values = cache["values"].at[:, place_N % length].set(v)
        last = place_N[-1]
        held_L = last - (last - jnp.arange(length)) % length  # the latest place that each slot holds
        seen_BNL = (held_L[None] <= place_N[:, None])[None] & (held_L[None] >= pads_B[:, None])[:, None]
        y_BNHK = jax.nn.dot_product_attention(q, keys, values, mask=seen_BNL[:, None])
        cache = {"keys": keys, "values": values, "position": last + 1, "pads": pads_B}
        return self._merge(y_BNHK), cache

    def step(self, x_BD: jax.Array, cache: dict) -> tuple[jax.Array, dict]:
        """Output for the next token, and the cache after it."""
        y_BND, cache = self.prefill(x_BD[:, None], cache)
        return y_BND[:, 0], cache

    def _heads(self, x_BND, start):
        batch, length, _ = x_BND.shape
        q, k, v = jnp.split(self.qkv(x_BND).reshape(batch, length, 3 * self.num_heads, -1), 3, axis=2)
        positions_N = start + jnp.arange(length)
        return rotate(q, positions_N), rotate(k, positions_N), v

    def _merge(self, y_BNHK):
        return self.out(y_BNHK.reshape(*y_BNHK.shape[:2], self.width))


def rotate(x_BNHK: jax.Array, positions_N: jax.Array, base: float = 10_000.0) -> jax.Array:
    """Rotary position embedding of (B, N, H, K) at the given positions; K even."""
    half = x_BNHK.shape[-1] // 2
    frequency_K = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle_N1K = positions_N.astype(jnp.float32)[:, None, None] * frequency_K[None, None]
    cos, sin = jnp.cos(angle_N1K).astype(x_BNHK.dtype)[None], jnp.sin(angle_N1K).astype(x_BNHK.dtype)[None]
    a, b = x_BNHK[..., :half], x_BNHK[..., half:]
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)
