"""Decoders of the Qwen2 and Llama families, to learn from: their own weights, in Flax, without PyTorch.

Source: Touvron et al. 2023 (arXiv 2302.13971) for Llama, Yang et al. 2024 (arXiv 2407.10671) for Qwen2: RMSNorm before
each part, rotary positions, grouped-query attention, SwiGLU.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from fftnet_jax import ops
from fftnet_jax.errors import ConfigError
from fftnet_jax.mixers.attention import attend, empty_cache, rotate
from fftnet_jax.models.llama_config import TeacherConfig
from fftnet_jax.models.rope import frequencies


class Teacher(nn.Module):
    """Token ids (B, N) → next-token logits (B, N, V), float32. Decodes like `fftnet_jax.models.Decoder`."""

    config: TeacherConfig

    def setup(self):
        c = self.config
        self.token = nn.Embed(c.vocab_size, c.width, dtype=jnp.dtype(c.dtype), param_dtype=jnp.dtype(c.dtype))
        self.layers = [TeacherLayer(c) for _ in range(c.num_layers)]
        self.norm = _norm(c)
        if not c.tie_head:
            self.head = _dense(c, c.vocab_size, False)

    def __call__(self, ids_BN: jax.Array) -> jax.Array:
        return self._head(self.features(ids_BN))

    def features(self, ids_BN: jax.Array) -> jax.Array:
        """What the head reads: token ids (B, N) → (B, N, D), after the final norm."""
        x_BND = self.token(jnp.asarray(ids_BN))
        for layer in self.layers:
            x_BND, _ = layer(x_BND)
        return self.norm(x_BND)

    @nn.nowrap
    def head_weights(self, params: dict) -> tuple[jax.Array, None, int]:
        """(weight, no bias, axis of the vocabulary in `weight`): logits = features · weight."""
        if self.config.tie_head:
            return params["token"]["embedding"], None, 0
        return params["head"]["kernel"], None, 1

    @nn.nowrap
    def init_cache(self, batch: int, length: int) -> dict:
        """An empty cache for up to `length` tokens, a pytree of fixed shapes."""
        c = self.config
        if batch < 1 or not 1 <= length <= c.max_length:
            raise ValueError(
                f"batch must be at least 1 and length in 1..max_length ({c.max_length}), got {batch}, {length}"
            )
        return {
            "layers": [empty_cache(batch, length, c.num_kv_heads, c.head_dim, c.dtype) for _ in range(c.num_layers)]
        }

    def prepare(self, weights: str | None = None) -> None:
        """Nothing can be prepared once for all tokens; here for what calls it on any decoder."""
        if weights is not None:
            raise ConfigError(f"weights must be None for a model of the {self.config.family} family, got {weights!r}")

    def prefill(
        self, ids_BN: jax.Array, cache: dict, pads_B: jax.Array | None = None, last: bool = False
    ) -> tuple[jax.Array, dict]:
        """Logits (B, N, V) after each of the next N tokens, and the cache after them; as `Decoder.prefill`."""
        x_BND = self.token(jnp.asarray(ids_BN))
        layers = []
        for layer, held in zip(self.layers, cache["layers"], strict=True):
            x_BND, held = layer(x_BND, held, pads_B)
            layers.append(held)
        return self._head(self.norm(x_BND[:, -1] if last else x_BND)), {"layers": layers}

    def step(self, ids_B: jax.Array, cache: dict) -> tuple[jax.Array, dict]:
        """Logits (B, V) after the next token, and the cache after it."""
        return self.prefill(jnp.asarray(ids_B)[:, None], cache, last=True)

    def _head(self, x):
        return (self.token.attend(x) if self.config.tie_head else self.head(x)).astype(jnp.float32)


class TeacherLayer(nn.Module):
    """Attention and feed-forward part, each after a norm and added to what came in: (B, N, D) → (B, N, D)."""

    config: TeacherConfig

    def setup(self):
        c = self.config
        self.attention_norm, self.ffn_norm = _norm(c), _norm(c)
        self.q = _dense(c, c.num_heads * c.head_dim, c.qkv_bias)
        self.k = _dense(c, c.num_kv_heads * c.head_dim, c.qkv_bias)
        self.v = _dense(c, c.num_kv_heads * c.head_dim, c.qkv_bias)
        self.out = _dense(c, c.width, c.out_bias)
        self.gate = _dense(c, c.ffn_width, c.ffn_bias)
        self.up = _dense(c, c.ffn_width, c.ffn_bias)
        self.down = _dense(c, c.width, c.ffn_bias)

    def __call__(self, x_BND: jax.Array, cache: dict | None = None, pads_B: jax.Array | None = None):
        """The output, and the cache after it, None without one."""
        mixed_BND, cache = self._attention(self.attention_norm(x_BND), cache, pads_B)
        x_BND = x_BND + mixed_BND
        u_BND = self.ffn_norm(x_BND)
        return x_BND + self.down(nn.silu(self.gate(u_BND)) * self.up(u_BND)), cache

    def _attention(self, x_BND, cache, pads_B):
        batch, length, _ = x_BND.shape
        heads = lambda y_BND: y_BND.reshape(batch, length, -1, self.config.head_dim)  # noqa: E731
        q, k, v = heads(self.q(x_BND)), heads(self.k(x_BND)), heads(self.v(x_BND))
        start = jnp.zeros((), jnp.int32) if cache is None else cache["position"]
        positions_N, frequency_K = start + jnp.arange(length), frequencies(self.config)
        q, k = rotate(q, positions_N, frequency_K), rotate(k, positions_N, frequency_K)
        if cache is None:
            y_BNHK = ops.causal_attention(q, k, v)
        else:
            y_BNHK, cache = attend(q, k, v, cache, pads_B)
        return self.out(y_BNHK.reshape(batch, length, -1)), cache


def _norm(c: TeacherConfig) -> nn.RMSNorm:
    return nn.RMSNorm(c.norm_epsilon, dtype=jnp.dtype(c.dtype), param_dtype=jnp.dtype(c.dtype))


def _dense(c: TeacherConfig, features: int, use_bias: bool) -> nn.Dense:
    return nn.Dense(features, use_bias, jnp.dtype(c.dtype), jnp.dtype(c.dtype))
