"""Choosing a token from logits: greedy, temperature, top-k, top-p."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from fftnet_jax.errors import ConfigError


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Attributes:
      temperature: logits are divided by it; 0 takes the likeliest token.
      top_k: only the k likeliest tokens can be chosen; 0 allows all.
      top_p: only the likeliest tokens whose mass reaches p (at least one); 1 allows all. Applied after top_k.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self):
        if not 0 <= self.temperature < float("inf"):
            raise ConfigError(f"temperature must be a finite number, at least 0 (0 is greedy), got {self.temperature}")
        if self.top_k < 0:
            raise ConfigError(f"top_k must be at least 0 (0 allows all tokens), got {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p must be above 0 and at most 1, got {self.top_p}")


def sample(logits_BV: jax.Array, key: jax.Array, how: Sampling) -> jax.Array:
    """One token per row, (B,) int32, from float32 logits (B, V)."""
    if how.temperature == 0:
        return logits_BV.argmax(axis=-1)
    below_BV = logits_BV - logits_BV.max(axis=-1, keepdims=True)  # at most 0: no temperature makes it overflow to nan
    logits_BV = keep_top(below_BV / max(how.temperature, 1e-30), how.top_k, how.top_p)
    return jax.random.categorical(key, logits_BV, axis=-1)


def keep_top(logits_BV: jax.Array, top_k: int = 0, top_p: float = 1.0) -> jax.Array:
    """Logits with those outside the top k, and outside the nucleus of mass p, set to -inf.

    Source of top-p: Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", section 3.1.
    """
    vocab = logits_BV.shape[-1]
    if 0 < top_k < vocab:
        _, kept_BK = jax.lax.top_k(logits_BV, top_k)  # by place, so that ties don't let in more than k
        nothing_BV = jnp.zeros(logits_BV.shape, bool)
        kept_BV = jnp.put_along_axis(nothing_BV, kept_BK, True, axis=-1, inplace=False)
        logits_BV = jnp.where(kept_BV, logits_BV, -jnp.inf)
    if top_p < 1:
        order_BV = jnp.argsort(-logits_BV, axis=-1)
        p_BV = jnp.take_along_axis(jax.nn.softmax(logits_BV, axis=-1), order_BV, axis=-1)
        before_BV = jnp.cumsum(p_BV, axis=-1) - p_BV  # the mass ahead of a token: the first is always kept
        rank_BV = jnp.argsort(order_BV, axis=-1)
        logits_BV = jnp.where(jnp.take_along_axis(before_BV, rank_BV, axis=-1) < top_p, logits_BV, -jnp.inf)
    return logits_BV
