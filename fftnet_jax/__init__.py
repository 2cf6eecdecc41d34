"""Fourier token mixers in JAX/Flax, and the models, training and sampling around them.

Shape suffixes of arrays: B batch, N tokens, D width, F frequency bins, W window, L lags or cache
length, H heads, V vocabulary, K taps or head width, M modes: `x_BND` is (batch, tokens, width).
A capital name, `X_BFD`, is a spectrum.
"""

import importlib

from fftnet_jax import mixers as mixers  # registers them, and their options in the configuration
from fftnet_jax import tasks as tasks  # too

_HOMES = {
    "Config": "config",
    "ConfigError": "errors",
    "Decoder": "models",
    "Encoder": "models",
    "ModelConfig": "config",
    "Sampling": "generation",
    "build_model": "models",
    "default_config": "config",
    "from_torch": "interop",
    "generate": "generation",
    "load": "runs",
    "load_config": "config",
    "train": "training",
}

_ROOMS = (
    "config",
    "data",
    "distillation",
    "errors",
    "generation",
    "interop",
    "mixers",
    "models",
    "ops",
    "parallel",
    "runs",
    "spectral",
    "tasks",
    "tokenizers",
    "training",
)

__all__ = list(_HOMES)


def __getattr__(name: str):
    # On first use: training, tokenizers and data sets are not what everybody needs.
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__():
    return sorted({*globals(), *_HOMES, *_ROOMS})
