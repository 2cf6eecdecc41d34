"""FNet's mixer: the real part of a 2-D DFT over tokens and channels. Bidirectional, no parameters."""

import jax
import jax.numpy as jnp

from fftnet_jax.mixers.base import Mixer, register
from fftnet_jax.parallel import sequence


@register("fourier")
class Fourier(Mixer):
    """Re FFT over channels and tokens: (B, N, D) → (B, N, D).

    Source: Lee-Thorp et al. 2021, "FNet" (arXiv 2105.03824), equation 3.
    """

    dtype: jnp.dtype = jnp.float32

    causal = False

    def __call__(self, x_BND: jax.Array) -> jax.Array:
        X_BND = sequence.to_channels(jnp.fft.fft(x_BND.astype(jnp.float32), axis=2))
        return sequence.to_tokens(jnp.fft.fft(X_BND, axis=1).real).astype(self.dtype)
