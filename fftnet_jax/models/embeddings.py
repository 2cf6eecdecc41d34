"""Token and position embeddings."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from fftnet_jax.config import ModelConfig


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

    def __call__(self, ids_BN: jax.Array, start=0, deterministic: bool = True) -> jax.Array:
        """`start` is the position of the first token (traced while decoding)."""
        c, length = self.config, ids_BN.shape[1]
        x_BND = self.token(ids_BN)
        if c.embedding_scale:
            x_BND = x_BND * jnp.asarray(c.width**0.5, x_BND.dtype)
        positions_N = start + jnp.arange(length)
        if c.positions == "learned":
            if length > c.max_length:
                raise ValueError(f"a sequence must be at most model.max_length ({c.max_length}) tokens, got {length}")
            x_BND = x_BND + self.position(positions_N)[None]
        elif c.positions == "sinusoidal":
            x_BND = x_BND + sinusoids(positions_N, c.width)[None].astype(x_BND.dtype)
        if c.embedding_norm:
            x_BND = self.norm(x_BND)
        return self.dropout(x_BND, deterministic=deterministic)

    def attend(self, x_BND: jax.Array) -> jax.Array:
        """Logits from the token table: (B, N, D) → (B, N, V)."""
        return self.token.attend(x_BND)


def sinusoids(positions_N: jax.Array, width: int, base: float = 10_000.0) -> jax.Array:
    """Sines on even and cosines on odd channels, (N, D); Vaswani et al. 2017, section 3.5."""
    frequency_F = jnp.exp(jnp.arange(0, width, 2, dtype=jnp.float32) * (-jnp.log(base) / width))
    angle_NF = positions_N.astype(jnp.float32)[:, None] * frequency_F[None]
    return jnp.stack([jnp.sin(angle_NF), jnp.cos(angle_NF)], axis=-1).reshape(-1, width)
