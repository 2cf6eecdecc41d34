"""Discrete Fourier transforms over the tokens, and over the channels."""

import jax
import jax.numpy as jnp

from fftnet_jax.ops.select import operation


@operation
def rfft(u_BND: jax.Array) -> jax.Array:
    """The frequencies from 0 to Nyquist of real tokens: (B, N, D) → (B, N // 2 + 1, D) complex64."""
    return jnp.fft.rfft(u_BND.astype(jnp.float32), axis=1)


@operation
def irfft(Z_BFD: jax.Array, length: int, dtype=jnp.float32) -> jax.Array:
    """The way back of `rfft`: (B, N // 2 + 1, D) complex64 → (B, N, D), N = `length`."""
    return jnp.fft.irfft(Z_BFD, length, axis=1).astype(dtype)


@operation
def channel_dft(x_BND: jax.Array) -> list[jax.Array]:
    """All frequencies over the channels, for `real_token_dft`: a complex array (B, N, D), or its parts."""
    return [jnp.fft.fft(x_BND.astype(jnp.float32), axis=2)]


@operation
def real_token_dft(spectrum: list[jax.Array]) -> jax.Array:
    """The real part of the DFT over the tokens of what `channel_dft` gave: (B, N, D), float32 or the parts' type."""
    return jnp.fft.fft(spectrum[0], axis=1).real
