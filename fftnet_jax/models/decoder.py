"""Decoder: an encoder whose mixers are all causal, with a cache to continue a sequence token by token."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from fftnet_jax import ops
from fftnet_jax.config import MIXERS, ModelConfig
from fftnet_jax.errors import ConfigError
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

    What steps need that depends on parameters only is computed every time, unless it is handed in:

        _, constants = model.apply({"params": params}, method="prepare", mutable=["constants"])
        logits_BV, cache = model.apply({"params": params, **constants}, ids_B, cache, method="step")
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
        return {"position": jnp.zeros((), jnp.int32), "pads": jnp.zeros((batch,), jnp.int32), "layers": layers}

    def prepare(self, weights: str | None = None) -> None:
        """Fills the collection "constants", which `prefill`, `step` and the full pass may be given.

        Args:
          weights: "int8" for weights of 8 bits with a scale for each output, an approximation; see `ops.quantised`.

        Raises:
          ConfigError: another name.
        """
        for block in self.blocks:
            block.prepare(weights)
        weight, _, axis = self.head_weights(self.variables["params"])
        parts = ops.head_parts(weight if axis == 1 else weight.T, implementation=self.config.implementation)
        parts = [ops.prepared_weight(part_DV, jnp.dtype(self.config.dtype), weights) for part_DV in parts]
        self.put_variable("constants", "head", parts)

    def prefill(
        self, ids_BN: jax.Array, cache: dict, pads_B: jax.Array | None = None, last: bool = False
    ) -> tuple[jax.Array, dict]:
        """Logits (B, N, V) after each of the next N tokens, and the cache after them.

        Args:
          pads_B: rows of different lengths are filled up on the left, in an empty cache: so many tokens
            of each row are none and change nothing. They take no room in the cache.
          last: logits (B, V) of the last token only.
        """
        x_BND = self._embed(jnp.asarray(ids_BN), cache, pads_B)
        layers = []
        for block, layer in zip(self.blocks, cache["layers"], strict=True):
            x_BND, layer = block.prefill(x_BND, layer, pads_B)
            layers.append(layer)
        pads_B = cache["pads"] if pads_B is None else pads_B
        cache = {"position": cache["position"] + x_BND.shape[1], "pads": pads_B, "layers": layers}
        return self.logits(x_BND[:, -1] if last else x_BND), cache

    def step(self, ids_B: jax.Array, cache: dict) -> tuple[jax.Array, dict]:
        """Logits (B, V) after the next token, and the cache after it."""
        x_BD = self._embed(jnp.asarray(ids_B)[:, None], cache, None)[:, 0]
        layers = []
        for block, layer in zip(self.blocks, cache["layers"], strict=True):
            x_BD, layer = block.step(x_BD, layer)
            layers.append(layer)
        return self.logits(x_BD), cache | {"position": cache["position"] + 1, "layers": layers}

    def _head(self, x):
        if not self.has_variable("constants", "head"):
            return super()._head(x)
        how = {"precision": self.config.precision, "implementation": self.config.implementation}
        logits = ops.head_logits(x, self.get_variable("constants", "head"), **how)
        bias_V = self.head_weights(self.variables["params"])[1]
        return logits if bias_V is None else logits + jnp.expand_dims(bias_V, range(logits.ndim - 1))

    def _embed(self, ids_BN, cache, pads_B):
        pads_B = cache["pads"] if pads_B is None else pads_B
        positions_BN = cache["position"] + jnp.arange(ids_BN.shape[1])[None] - pads_B[:, None]
        return self.embeddings(ids_BN, jnp.maximum(positions_BN, 0))


def build_model(config: ModelConfig) -> Encoder:
    """The encoder or decoder that a configuration describes."""
    return Decoder(config) if config.family == "decoder" else Encoder(config)
