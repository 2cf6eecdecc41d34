"""Softmax attention behind the mixer's signature: the baseline, and a part of hybrids."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from fftnet_jax.config.model import ModelConfig
from fftnet_jax.errors import ConfigError
from fftnet_jax.mixers.base import Mixer, option, register
from fftnet_jax.mixers.dense import Dense
from fftnet_jax.parallel import sequence


@register("attention")
class Attention(Mixer):
    """Causal multi-head attention with rotary positions: (B, N, D) → (B, N, D).

    Source: Vaswani et al. 2017; rotary positions from Su et al. 2021 (arXiv 2104.09864), base 10,000.
    """

    width: int
    num_heads: int = option(4, "attention: heads", minimum=1)
    dtype: jnp.dtype = jnp.float32
    precision: str = "default"
    implementation: str = "auto"

    causal = True

    @staticmethod
    def check(config: ModelConfig) -> None:
        if config.width % (2 * config.num_heads):
            raise ConfigError(
                f"model.width must be a multiple of 2 × model.num_heads ({2 * config.num_heads}) for attention, "
                f"got {config.width}"
            )

    @staticmethod
    def check_split(config: ModelConfig, parts: int) -> None:
        if config.num_heads % parts:
            raise ConfigError(f"model.num_heads must be a multiple of mesh.model ({parts}), got {config.num_heads}")

    def setup(self):
        how = {"dtype": self.dtype, "precision": self.precision, "implementation": self.implementation}
        self.qkv = Dense(self.width, 3 * self.width, use_bias=False, **how)
        self.out = Dense(self.width, self.width, use_bias=False, **how)

    def __call__(self, x_BND: jax.Array) -> jax.Array:
        self.check_input(x_BND)
        q, k, v = (sequence.to_channels(z) for z in self._heads(x_BND, sequence.first_position(x_BND.shape[1])))
        with jax.default_matmul_precision(self.precision):
            y_BNHK = jax.nn.dot_product_attention(q, k, v, is_causal=True)
        return self._merge(sequence.to_tokens(y_BNHK))

    @nn.nowrap
    def init_cache(self, batch: int, length: int) -> dict:
        """Room for `length` tokens; see `empty_cache`."""
        return empty_cache(batch, length, self.num_heads, self.width // self.num_heads, self.dtype)

    def prepare(self, weights: str | None = None) -> None:
        """Leaves the weights for steps in the collection "constants"."""
        self.qkv.prepare(weights)
        self.out.prepare(weights)

    def prefill(self, x_BND: jax.Array, cache: dict, pads_B: jax.Array | None = None) -> tuple[jax.Array, dict]:
        """Outputs for the next N tokens, and the cache after them; see `zero_pads` for `pads_B`."""
        self.check_input(x_BND)
        with jax.default_matmul_precision(self.precision):
            y_BNHK, cache = attend(*self._heads(x_BND, cache["position"]), cache, pads_B)
        return self._merge(y_BNHK), cache

    def step(self, x_BD: jax.Array, cache: dict) -> tuple[jax.Array, dict]:
        """Output for the next token, and the cache after it."""
        self.check_input(x_BD, "batch")
        y_BND, cache = self.prefill(x_BD[:, None], cache)
        return y_BND[:, 0], cache

    def _heads(self, x_BND, start):
        batch, length, _ = x_BND.shape
        q, k, v = jnp.split(self.qkv(x_BND).reshape(batch, length, 3 * self.num_heads, -1), 3, axis=2)
        positions_N, frequency_K = start + jnp.arange(length), rotary_frequencies(q.shape[-1])
        return rotate(q, positions_N, frequency_K), rotate(k, positions_N, frequency_K), v

    def _merge(self, y_BNHK):
        return self.out(y_BNHK.reshape(*y_BNHK.shape[:2], self.width))


def empty_cache(batch: int, length: int, heads: int, head_dim: int, dtype) -> dict:
    """Keys and values (B, L, H, K) of the last `length` places, how many places there were, and the left pads."""
    shape = (batch, length, heads, head_dim)
    return {
        "keys": jnp.zeros(shape, dtype),
        "values": jnp.zeros(shape, dtype),  # not the same array: a caller may donate the cache
        "position": jnp.zeros((), jnp.int32),
        "pads": jnp.zeros((batch,), jnp.int32),
    }


def attend(q_BNHK, k_BNHK, v_BNHK, cache: dict, pads_B: jax.Array | None = None) -> tuple[jax.Array, dict]:
    """Causal attention of the next N tokens to those in the cache and to each other, and the cache after them.

    Keys and values may have fewer heads than queries, each for a group of them; see `zero_pads` for `pads_B`.
    """
    pads_B = cache["pads"] if pads_B is None else pads_B
    length = cache["keys"].shape[1]
    place_N = cache["position"] + jnp.arange(q_BNHK.shape[1])
    keys = cache["keys"].at[:, place_N % length].set(k_BNHK)  # round and round: tokens take the places of pads
    values = cache["values"].at[:, place_N % length].set(v_BNHK)
    last = place_N[-1]
    held_L = last - (last - jnp.arange(length)) % length  # the latest place that each slot holds
    seen_BNL = (held_L[None] <= place_N[:, None])[None] & (held_L[None] >= pads_B[:, None])[:, None]
    y_BNHK = jax.nn.dot_product_attention(q_BNHK, keys, values, mask=seen_BNL[:, None])
    return y_BNHK, {"keys": keys, "values": values, "position": last + 1, "pads": pads_B}


def rotary_frequencies(head_dim: int, base: float = 10_000.0) -> jax.Array:
    """Radians per token for each pair of channels: (K/2,)."""
    half = head_dim // 2
    return base ** (-jnp.arange(half, dtype=jnp.float32) / half)


def rotate(x_BNHK: jax.Array, positions_N: jax.Array, frequency_K: jax.Array) -> jax.Array:
    """Rotary embedding of (B, N, H, K), K even, at the given positions; `frequency_K` (K/2,) in radians per token."""
    angle_N1K = positions_N.astype(jnp.float32)[:, None, None] * frequency_K[None, None]
    # The barrier keeps each cosine from being computed anew for every row and head.
    cos, sin = jax.lax.optimization_barrier((jnp.cos(angle_N1K), jnp.sin(angle_N1K)))
    cos, sin = cos.astype(x_BNHK.dtype)[None], sin.astype(x_BNHK.dtype)[None]
    a, b = jnp.split(x_BNHK, 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)
