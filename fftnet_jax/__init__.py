"""Fourier token mixers in JAX/Flax, and the models, training and sampling around them.

Shape suffixes of arrays: B batch, N tokens, D width, F frequency bins, W window, L lags or cache
length, H heads, V vocabulary, K taps or head width, M modes: `x_BND` is (batch, tokens, width).
A capital name, `X_BFD`, is a spectrum.
"""

from fftnet_jax.config import Config, ConfigError, ModelConfig, default_config, load_config
from fftnet_jax.generation import Sampling, generate
from fftnet_jax.interop import from_torch
from fftnet_jax.models import Decoder, Encoder, build_model
from fftnet_jax.training import load, train

__all__ = [
    "Config",
    "ConfigError",
    "Decoder",
    "Encoder",
    "ModelConfig",
    "Sampling",
    "build_model",
    "default_config",
    "from_torch",
    "generate",
    "load",
    "load_config",
    "train",
]
