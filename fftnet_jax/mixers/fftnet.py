"""FFTNet's mixer: FFT over the sequence, adaptive spectral filter, modReLU, inverse FFT. Bidirectional.

Source: Fein-Ashley 2025, "The FFT Strikes Back" (arXiv 2502.18394), section 3, and its PyTorch code.
Every output sees every input, future ones too, so it serves an encoder; `CausalFFTNet` is the causal form.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from fftnet_jax import ops
from fftnet_jax.mixers.base import Mixer, option, register
from fftnet_jax.ops.precision import EXACT
from fftnet_jax.parallel import sequence


class FourierTransform(nn.Module):
    """DFT over the tokens: (B, N, D) real → (B, N, D) complex64."""

    def __call__(self, u_BND: jax.Array) -> jax.Array:
        return jnp.fft.fft(u_BND.astype(jnp.float32), axis=1)


class InverseFourierTransform(nn.Module):
    """Real part of the inverse DFT over the tokens: (B, N, D) complex → (B, N, D) float32."""

    def __call__(self, Z_BND: jax.Array) -> jax.Array:
        return jnp.fft.ifft(Z_BND, axis=1).real


class AdaptiveSpectralFilter(nn.Module):
    """Real gain on the spectrum, from a learned base and the mean of the sequence.

    Attributes:
      width: channels D.
      hidden: hidden width of the network on the mean.
      kind: "channel", one gain per channel for every frequency (the original code), or "frequency", one per
        frequency and channel (the paper's text). The latter is learned at `points`
        frequencies from 0 to Nyquist and interpolated linearly, so it serves any length; it
        depends on |frequency| only, so real input keeps a real output.
    """

    width: int
    hidden: int
    kind: str = "channel"
    points: int = 16
    precision: str = "default"

    def setup(self):
        self.rows = 1 if self.kind == "channel" else self.points
        sizes = self.hidden, self.rows * self.width
        self.mlp = [nn.Dense(size, precision=self.precision) for size in sizes]
        self.base = self.param("base", nn.initializers.ones, (self.rows, self.width))

    def __call__(self, X_BND: jax.Array, u_BND: jax.Array) -> jax.Array:
        """Filters the spectrum (B, N, D) of `u_BND`, or the first N//2 + 1 frequencies of it."""
        context_BD = sequence.mean(u_BND.astype(jnp.float32))
        delta = self.mlp[1](jax.nn.relu(self.mlp[0](context_BD)))
        gain_BPD = sequence.own_channels(self.base[None] + delta.reshape(-1, self.rows, self.width))
        if self.kind == "frequency":
            length = sequence.whole_length(u_BND.shape[1])
            frequency_N = jnp.fft.fftfreq(length)[: X_BND.shape[1]]  # even in it, so Nyquist's sign is free
            weights_NP = _interpolation(frequency_N, self.rows)
            gain_BPD = jnp.einsum("np,bpd->bnd", weights_NP, gain_BPD, precision=EXACT)
        return X_BND * gain_BPD.astype(X_BND.dtype)

    def frequency_response(self, points: int) -> jax.Array:
        """Magnitude (F, D) of the learned base, at F frequencies from 0 to Nyquist."""
        if self.kind == "channel":
            return jnp.broadcast_to(jnp.abs(self.base), (points, self.width))
        return jnp.abs(_interpolation(jnp.linspace(0, 0.5, points), self.rows) @ self.base)


class ModReLU(nn.Module):
    """modReLU with one bias per channel, zero at the start."""

    width: int

    @nn.compact
    def __call__(self, Z_BND: jax.Array) -> jax.Array:
        bias_D = self.param("bias", nn.initializers.zeros, (self.width,))
        return ops.modrelu(Z_BND, sequence.own_channels(bias_D)[None, None])


@register("fftnet")
class FFTNet(Mixer):
    """Fourier transform → adaptive spectral filter → modReLU → inverse: (B, N, D) → (B, N, D).

    Attributes:
      width, hidden, filter, filter_points: see `AdaptiveSpectralFilter` (`filter` is its `kind`).
      half_spectrum: compute the frequencies from 0 to Nyquist only, half of the work. The input is real, and a real
        gain and a real bias per channel keep the spectrum's symmetry, so the others are their mirror image.
    """

    width: int
    hidden: int = option(512, "fftnet: hidden channels of the filter's network", minimum=1, declared_as="filter_width")
    filter: str = option(
        "channel", "fftnet: gain per channel, or per frequency and channel", choices=("channel", "frequency")
    )
    filter_points: int = option(16, "fftnet, filter=frequency: control points from 0 to Nyquist", minimum=2)
    half_spectrum: bool = True
    dtype: jnp.dtype = jnp.float32
    precision: str = "default"
    implementation: str = "auto"

    causal = False

    def setup(self):
        self.transform, self.inverse = FourierTransform(), InverseFourierTransform()
        sizes = self.width, self.hidden, self.filter, self.filter_points
        self.spectral_filter = AdaptiveSpectralFilter(*sizes, self.precision)
        self.modrelu = ModReLU(self.width)

    def __call__(self, u_BND: jax.Array) -> jax.Array:
        self.check_input(u_BND)
        whole_BND = sequence.to_channels(u_BND)
        if not self.half_spectrum:
            Z_BND = self.spectral_filter(self.transform(whole_BND), u_BND)
            return sequence.to_tokens(self.inverse(self.modrelu(Z_BND))).astype(self.dtype)
        X_BFD = ops.rfft(whole_BND, implementation=self.implementation)
        Z_BFD = self.modrelu(self.spectral_filter(X_BFD, u_BND))
        y_BND = ops.irfft(Z_BFD, whole_BND.shape[1], self.dtype, implementation=self.implementation)
        return sequence.to_tokens(y_BND)

    def frequency_response(self, points: int) -> jax.Array:
        """See `AdaptiveSpectralFilter.frequency_response`."""
        return self.spectral_filter.frequency_response(points)


def _interpolation(frequency_N: jax.Array, points: int) -> jax.Array:
    """Weights (N, P) that interpolate P gains, spread evenly over 0..Nyquist, at N frequencies (cycles a token)."""
    place_N = jnp.abs(frequency_N) * 2 * (points - 1)
    return jax.nn.relu(1 - jnp.abs(place_N[:, None] - jnp.arange(points)[None, :].astype(jnp.float32)))
