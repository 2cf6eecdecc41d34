"""Token mixers: Linen modules (B, N, D) → (B, N, D) with one call, swapped by name; see `base`."""

from fftnet_jax.discovery import import_all
from fftnet_jax.mixers.attention import Attention
from fftnet_jax.mixers.base import Mixer, build_mixer, option, register
from fftnet_jax.mixers.causal_fftnet import CausalFFTNet
from fftnet_jax.mixers.causal_stft import CausalSTFT
from fftnet_jax.mixers.fftnet import AdaptiveSpectralFilter, FFTNet, FourierTransform, InverseFourierTransform, ModReLU
from fftnet_jax.mixers.fourier import Fourier
from fftnet_jax.mixers.spectral_modes import SpectralModes

__all__ = [
    "AdaptiveSpectralFilter",
    "Attention",
    "CausalFFTNet",
    "CausalSTFT",
    "FFTNet",
    "Fourier",
    "FourierTransform",
    "InverseFourierTransform",
    "Mixer",
    "ModReLU",
    "SpectralModes",
    "build_mixer",
    "option",
    "register",
]

import_all(__name__, __path__)
