"""FNet's mixer: the real part of a 2-D DFT over tokens and channels. Bidirectional, no parameters."""

import jax
import jax.numpy as jnp

from fftnet_jax import ops
from fftnet_jax.mixers.base import Mixer, register
from fftnet_jax.parallel import sequence


@register("fourier")
class Fourier(Mixer):
    """Re FFT over channels and tokens: (B, N, D) → (B, N, D).

    Source: Lee-Thorp et al. 2021, "FNet" (arXiv 2105.03824), equation 3.
    """

    dtype: jnp.dtype = jnp.float32
    implementation: str = "auto"

    causal = False

    def __call__(self, x_BND: jax.Array) -> jax.Array:
        self.check_input(x_BND)
        spectrum = ops.channel_dft(x_BND.astype(self.dtype), implementation=self.implementation)
        spectrum = [sequence.to_channels(part) for part in spectrum]
        y_BND = ops.real_token_dft(spectrum, implementation=self.implementation)
        return sequence.to_tokens(y_BND).astype(self.dtype)
