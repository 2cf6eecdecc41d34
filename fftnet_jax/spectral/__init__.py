"""Pure functions on arrays: DFTs, causal windows, causal convolution, modReLU. No parameters, no Flax."""

from fftnet_jax.spectral.convolution import causal_convolution, fast_length, short_convolution
from fftnet_jax.spectral.dft import window_spectrum
from fftnet_jax.spectral.modrelu import modrelu
from fftnet_jax.spectral.windows import causal_windows, valid_windows

__all__ = [
    "causal_convolution",
    "causal_windows",
    "fast_length",
    "modrelu",
    "short_convolution",
    "valid_windows",
    "window_spectrum",
]
