"""Decoder: an encoder whose mixers are all causal, with a cache to continue a sequence token by token."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from fftnet_jax.config import MIXERS, ConfigError, ModelConfig
from fftnet_jax.models.block import Block
from fftnet_jax.models.encoder import Encoder


class Decoder(Encoder):
    """Token ids (B, N) → next-token logits (B, N, V); logits at t depend on tokens up to t only.

    Decoding, equal to one call on the whole sequence at every position:

        cache = model.init_cache(batch, length)
        logits_BNV, cache = model.apply({"params": params}, ids_BN, cache, method="prefill")
        logits_BV, cache = model.apply({"params": params}, ids_B, cache, method="step")

    `prefill` may be called again to add several tokens at once. The cache holds `length` tokens;
    what is added beyond them is undefined (shapes are fixed and the count is traced).
    """

    def __post_init__(self):
        for name in self.config.mixers:
            if not MIXERS[name]:
                raise ConfigError(f"a Decoder needs causal mixers, such as 'causal_fftnet', got {name!r}")
        super().__post_init__()

    @nn.nowrap
    def init_cache(self, batch: int, length: int) -> dict:
        """An empty cache for up to `length` tokens, a pytree of fixed shapes."""
        c = self.config
        if batch < 1 or length < 1:
            raise ValueError(f"batch and length must be at least 1, got {batch} and {length}")
        if c.positions == "learned" and length > c.max_length:
            raise ValueError(f"length must be in 1..model.max_length ({c.max_length}), got {length}")
        layers = [Block(c, name).init_cache(batch, length) for name in c.mixers]
        return {"position": jnp.zeros((), jnp.int32), "layers": layers}

    def prefill(self, ids_BN: jax.Array, cache: dict) -> tuple[jax.Array, dict]:
        """Logits (B, N, V) after each of the next N tokens, and the cache after them."""
        ids_BN = jnp.asarray(ids_BN)
        x_BND = self.embeddings(ids_BN, start=cache["position"])
        return self._decode(x_BND, cache, ids_BN.shape[1], "prefill")

    def step(self, ids_B: jax.Array, cache: dict) -> tuple[jax.Array, dict]:
        """Logits (B, V) after the next token, and the cache after it."""
        x_B1D = self.embeddings(jnp.asarray(ids_B)[:, None], start=cache["position"])
        return self._decode(x_B1D[:, 0], cache, 1, "step")

    def _decode(self, x, cache, count, method):
        layers = []
        for block, layer in zip(self.blocks, cache["layers"], strict=True):
            x, layer = getattr(block, method)(x, layer)
            layers.append(layer)
        return self.logits(x), {"position": cache["position"] + count, "layers": layers}


def build_model(config: ModelConfig) -> Encoder:
    """The encoder or decoder that a configuration describes."""
    return Decoder(config) if config.family == "decoder" else Encoder(config)
