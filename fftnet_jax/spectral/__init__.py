"""Pure functions on arrays: DFTs, causal windows, causal convolution, damped modes, modReLU. No parameters, no Flax."""

from fftnet_jax.spectral.convolution import causal_convolution, fast_length, short_convolution
from fftnet_jax.spectral.dft import window_spectrum
from fftnet_jax.spectral.fft import irfft, rfft
from fftnet_jax.spectral.modal_convolution import modal_convolution
from fftnet_jax.spectral.modes import advance_state, angles, damped_waves, state_output
from fftnet_jax.spectral.modrelu import modrelu
from fftnet_jax.spectral.plan import STFTPlan, plan_stft
from fftnet_jax.spectral.stft import causal_stft
from fftnet_jax.spectral.windows import causal_windows, valid_windows

__all__ = [
    "advance_state",
    "angles",
    "causal_convolution",
    "STFTPlan",
    "causal_stft",
    "causal_windows",
    "damped_waves",
    "fast_length",
    "irfft",
    "modal_convolution",
    "modrelu",
    "plan_stft",
    "rfft",
    "short_convolution",
    "state_output",
    "valid_windows",
    "window_spectrum",
]
