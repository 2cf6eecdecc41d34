"""One block: a token mixer and a feed-forward part, each with its residual and norms."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from fftnet_jax.config import ModelConfig
from fftnet_jax.mixers import build_mixer
from fftnet_jax.mixers.dense import Dense

ACTIVATIONS = {
    "gelu": lambda x: nn.gelu(x, approximate=False),
    "gelu_tanh": nn.gelu,
    "relu2": lambda x: jnp.square(nn.relu(x)),
}


class FeedForward(nn.Module):
    """Dense → activation → dense, per token."""

    width: int
    hidden: int
    activation: str = "gelu"
    dtype: jnp.dtype = jnp.float32
    precision: str = "default"
    implementation: str = "auto"

    def setup(self):
        how = {"dtype": self.dtype, "precision": self.precision, "implementation": self.implementation}
        self.up = Dense(self.width, self.hidden, **how)
        self.down = Dense(self.hidden, self.width, **how)

    def __call__(self, x_BND: jax.Array) -> jax.Array:
        return self.down(ACTIVATIONS[self.activation](self.up(x_BND)))

    def prepare(self, weights: str | None = None) -> None:
        self.up.prepare(weights)
        self.down.prepare(weights)


class Block(nn.Module):
    """Mixer and feed-forward part around one residual stream: (B, N, D) → (B, N, D).

    Norms, by `config.block_norm`, for each part f:
      pre:  x + f(LN(x))         post: LN(x + f(x))
      both: LN(x + f(LN(x)))     none: x + f(x)
    """

    config: ModelConfig
    mixer_name: str

    def setup(self):
        c, dtype = self.config, jnp.dtype(self.config.dtype)
        self.mixer = build_mixer(self.mixer_name, c)
        self.mixer_norms = self._norms()
        if c.ffn_width:
            self.ffn = FeedForward(c.width, c.ffn_width, c.activation, dtype, c.precision, c.implementation)
            self.ffn_norms = self._norms()
        self.dropout = nn.Dropout(c.dropout)

    def __call__(self, x_BND: jax.Array, deterministic: bool = True, keys: tuple | None = None) -> jax.Array:
        return self._apply(x_BND, lambda u_BND: (self.mixer(u_BND), None), deterministic, keys)[0]

    def dropout_keys(self) -> tuple | None:
        """The keys of the two parts' dropout, as a call draws them; for a call in another place."""
        return (self.dropout.make_rng("dropout"), self.dropout.make_rng("dropout")) if self.config.dropout else None

    @nn.nowrap
    def init_cache(self, batch: int, length: int) -> dict:
        return build_mixer(self.mixer_name, self.config).init_cache(batch, length)

    def prepare(self, weights: str | None = None) -> None:
        if hasattr(self.mixer, "prepare"):
            self.mixer.prepare(weights)
        if self.config.ffn_width:
            self.ffn.prepare(weights)

    def prefill(self, x_BND: jax.Array, cache: dict, pads_B: jax.Array | None = None) -> tuple[jax.Array, dict]:
        return self._apply(x_BND, lambda u_BND: self.mixer.prefill(u_BND, cache, pads_B), True)

    def step(self, x_BD: jax.Array, cache: dict) -> tuple[jax.Array, dict]:
        return self._apply(x_BD, lambda u_BD: self.mixer.step(u_BD, cache), True)

    def _apply(self, x, mix, deterministic, keys=None):
        before, after = self.mixer_norms
        mix_key, ffn_key = keys or (None, None)
        mixed, cache = mix(before(x))
        x = after(x + self.dropout(mixed, deterministic, mix_key))
        if self.config.ffn_width:
            before, after = self.ffn_norms
            x = after(x + self.dropout(self.ffn(before(x)), deterministic, ffn_key))
        return x, cache

    def _norms(self):
        c = self.config
        norm = {"use_fast_variance": False, "dtype": jnp.dtype(c.dtype)}
        before = nn.LayerNorm(c.norm_epsilon, **norm) if c.block_norm in ("pre", "both") else _identity
        after = nn.LayerNorm(c.norm_epsilon, **norm) if c.block_norm in ("post", "both") else _identity
        return before, after


def _identity(x):
    return x


def FFTNetLayer(width: int, filter_width: int = 512, dropout: float = 0.0, layer_norm: bool = True) -> Block:
    """Original A's layer, a block without a feed-forward part: LN(x + dropout(FFTNet(LN(x)))), (B, N, D) → (B, N, D).

    Without `layer_norm` neither norm is there.
    """
    norm = "both" if layer_norm else "none"
    sizes = {"width": width, "ffn_width": 0, "filter_width": filter_width}
    config = ModelConfig(family="encoder", mixer="fftnet", block_norm=norm, dropout=dropout, **sizes)
    return Block(config, "fftnet")
