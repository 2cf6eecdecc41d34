"""Token and position embeddings."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from fftnet_jax.config import ModelConfig
from fftnet_jax.parallel import sequence


class Embeddings(nn.Module):
    """Token ids (B, N) → (B, N, D), with the positions, scale, norm and dropout that the configuration asks for."""

    config: ModelConfig

    def setup(self):
        c, dtype = self.config, jnp.dtype(self.config.dtype)
        small = nn.initializers.normal(0.02)
        self.token = nn.Embed(c.vocab_size, c.width, embedding_init=small, dtype=dtype)
        if c.positions == "learned":
            self.position = nn.Embed(c.max_length, c.width, embedding_init=small, dtype=dtype)
        if c.embedding_norm:
            self.norm = nn.LayerNorm(c.norm_epsilon, use_fast_variance=False, dtype=dtype)
        self.dropout = nn.Dropout(c.dropout)

    def __call__(
        self, ids_BN: jax.Array, positions_BN: jax.Array | None = None, deterministic: bool = True
    ) -> jax.Array:
        """Tokens stand at 0, 1, 2, … unless `positions_BN`, (B, N) or (1, N), says where."""
        c, length = self.config, sequence.whole_length(ids_BN.shape[1])
        x_BND = _rows(self.token, ids_BN)
        if c.embedding_scale:
            x_BND = x_BND * jnp.asarray(c.width**0.5, x_BND.dtype)
        if positions_BN is None:
            own = ids_BN.shape[1]
            positions_BN = sequence.first_position(own) + jnp.arange(own)[None]
        if c.positions == "learned":
            if length > c.max_length:
                raise ValueError(f"a sequence must be at most model.max_length ({c.max_length}) tokens, got {length}")
            x_BND = x_BND + _rows(self.position, positions_BN)
        elif c.positions == "sinusoidal":
            x_BND = x_BND + sinusoids(positions_BN, c.width).astype(x_BND.dtype)
        if c.embedding_norm:
            x_BND = self.norm(x_BND)
        return self.dropout(x_BND, deterministic=deterministic)

    def attend(self, x_BND: jax.Array) -> jax.Array:
        """Logits from the token table: (…, D) → (…, V)."""
        with jax.default_matmul_precision(self.config.precision):
            return self.token.attend(x_BND)


def _rows(table: nn.Embed, ids_BN):
    """Some rows of a table, in its dtype. Flax casts all of it first, a third of a decoding step of 124M parameters."""
    return jnp.take(table.embedding, ids_BN, axis=0).astype(table.dtype)


def sinusoids(positions: jax.Array, width: int, base: float = 10_000.0) -> jax.Array:
    """Sines on even and cosines on odd channels, (…) → (…, D); Vaswani et al. 2017, section 3.5."""
    frequency_F = jnp.exp(jnp.arange(0, width, 2, dtype=jnp.float32) * (-jnp.log(base) / width))
    angle = jnp.multiply.outer(positions.astype(jnp.float32), frequency_F)
    return jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=-1).reshape(*positions.shape, width)
