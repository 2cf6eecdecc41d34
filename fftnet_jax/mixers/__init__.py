"""Token mixers: Linen modules (B, N, D) → (B, N, D) with one call, swapped by name; see `base`."""

import importlib
import pkgutil

from fftnet_jax.mixers.attention import Attention
from fftnet_jax.mixers.base import Mixer, build_mixer, option, register
from fftnet_jax.mixers.causal_fftnet import CausalFFTNet
from fftnet_jax.mixers.causal_stft import CausalSTFT
from fftnet_jax.mixers.fftnet import AdaptiveSpectralFilter, FFTNet, FourierTransform, InverseFourierTransform, ModReLU
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
    "Mixer",
    "ModReLU",
    "build_mixer",
    "option",
    "register",
]

for _file in pkgutil.iter_modules(__path__):  # a new mixer needs no line here
    importlib.import_module(f"{__name__}.{_file.name}")
