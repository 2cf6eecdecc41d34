"""Encoder: embeddings, blocks of any mixers, head. Original A is one of its settings."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from fftnet_jax.config import ModelConfig
from fftnet_jax.models.block import Block
from fftnet_jax.models.embeddings import Embeddings
from fftnet_jax.models.stack import apply_blocks
from fftnet_jax.parallel.split_parameters import gathering


class Encoder(nn.Module):
    """Token ids (B, N) → logits (B, N, V), float32.

    With a bidirectional mixer every logit sees the whole sequence: it can fill in masked tokens,
    it is no language model.
    """

    config: ModelConfig

    def setup(self):
        c = self.config
        if not c.vocab_size:
            raise ValueError("model.vocab_size must be at least 1 to build a model, got 0")
        kinds = [gathering(Block, f"blocks_{index}") for index in range(c.num_layers)]
        if c.remat:
            kinds = [nn.remat(kind, static_argnums=(2,)) for kind in kinds]
        self.embeddings = Embeddings(c)
        self.blocks = [kind(c, name) for kind, name in zip(kinds, c.mixers, strict=True)]
        if c.final_norm:
            self.final_norm = nn.LayerNorm(c.norm_epsilon, use_fast_variance=False, dtype=jnp.dtype(c.dtype))
        if not c.tie_head:
            how = {"dtype": jnp.dtype(c.dtype), "precision": c.precision}
            self.head = nn.Dense(c.vocab_size, use_bias=c.head_bias, **how)
        elif c.head_bias:
            self.head_bias = self.param("head_bias", nn.initializers.zeros, (c.vocab_size,))

    def __call__(self, ids_BN: jax.Array, deterministic: bool = True) -> jax.Array:
        return self._head(self.features(ids_BN, deterministic))

    def features(self, ids_BN: jax.Array, deterministic: bool = True) -> jax.Array:
        """What the head reads: token ids (B, N) → (B, N, D), after the final norm."""
        x_BND = self.embeddings(jnp.asarray(ids_BN), deterministic=deterministic)
        if self.config.scan_layers and not self.is_initializing():
            return self._normed(apply_blocks(self.blocks, self.variables["params"], x_BND, deterministic))
        for block in self.blocks:
            x_BND = block(x_BND, deterministic)
        return self._normed(x_BND)

    @nn.nowrap
    def head_weights(self, params: dict) -> tuple[jax.Array, jax.Array | None, int]:
        """(weight, bias or None, axis of the vocabulary in `weight`): logits = features · weight + bias.

        The weight is (V, D) where it is the token table, else (D, V).
        """
        c = self.config
        if not c.tie_head:
            return params["head"]["kernel"], params["head"]["bias"] if c.head_bias else None, 1
        return params["embeddings"]["token"]["embedding"], params["head_bias"] if c.head_bias else None, 0

    def frequency_responses(self, points: int = 129) -> list[tuple[str, jax.Array]]:
        """(title, magnitude (F, D) from 0 to Nyquist) for each layer whose mixer is a spectral filter."""
        return [
            (f"layer {index}: {block.mixer_name}", block.mixer.frequency_response(points))
            for index, block in enumerate(self.blocks)
            if hasattr(block.mixer, "frequency_response")
        ]

    def logits(self, x: jax.Array) -> jax.Array:
        """Final norm and head: (…, D) → (…, V), float32."""
        return self._head(self._normed(x))

    def _normed(self, x):
        return self.final_norm(x) if self.config.final_norm else x

    def _head(self, x):
        if not self.config.tie_head:
            return self.head(x).astype(jnp.float32)
        logits = self.embeddings.attend(x).astype(jnp.float32)
        return logits + jnp.expand_dims(self.head_bias, range(logits.ndim - 1)) if self.config.head_bias else logits
