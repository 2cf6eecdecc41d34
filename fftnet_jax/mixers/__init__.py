"""Token mixers: Linen modules (B, N, D) → (B, N, D) with one call, swapped by name.

A mixer's class says whether it is `causal`. A causal one also decodes, through an explicit cache:
`init_cache(batch, length)`, `prefill(x_BND, cache, pads_B)` and `step(x_BD, cache)` give the same outputs
as one call on the whole sequence. What `step` needs that depends on parameters only, `prepare()` leaves in
the collection "constants", to be computed once and not every token.
"""

import flax.linen as nn
import jax.numpy as jnp

from fftnet_jax.config import ModelConfig
from fftnet_jax.mixers.attention import Attention
from fftnet_jax.mixers.causal_fftnet import CausalFFTNet
from fftnet_jax.mixers.causal_stft import CausalSTFT
from fftnet_jax.mixers.fftnet import (
    AdaptiveSpectralFilter,
    FFTNet,
    FourierTransform,
    InverseFourierTransform,
    ModReLU,
)
from fftnet_jax.mixers.fourier import Fourier

__all__ = [
    "AdaptiveSpectralFilter",
    "Attention",
    "CausalFFTNet",
    "CausalSTFT",
    "FFTNet",
    "Fourier",
    "FourierTransform",
    "InverseFourierTransform",
    "ModReLU",
    "build_mixer",
]


def build_mixer(name: str, config: ModelConfig) -> nn.Module:
    """The mixer that a configuration names; every name of `config.MIXERS` has its line here."""
    c, dtype = config, jnp.dtype(config.dtype)
    builders = {
        "causal_fftnet": lambda: CausalFFTNet(c.width, c.filter_modes, c.filter_horizon, c.short_filter, dtype),
        "causal_stft": lambda: CausalSTFT(c.width, c.window, c.spectrum, c.spectrum_norm, c.stft_form, dtype),
        "attention": lambda: Attention(c.width, c.num_heads, dtype),
        "fftnet": lambda: FFTNet(c.width, c.filter_width, c.filter, c.filter_points, dtype=dtype),
        "fourier": lambda: Fourier(dtype),
    }
    return builders[name]()
