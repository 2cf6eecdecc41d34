"""Discrete Fourier transforms over the tokens, and over any axis."""

import jax
import jax.numpy as jnp

from fftnet_jax.ops.select import operation


@operation
def rfft(u_BND: jax.Array) -> jax.Array:
    """The frequencies from 0 to Nyquist of real tokens: (B, N, D) → (B, N // 2 + 1, D) complex64."""
    return jnp.fft.rfft(u_BND.astype(jnp.float32), axis=1)


@operation
def irfft(Z_BFD: jax.Array, length: int) -> jax.Array:
    """The way back of `rfft`: (B, N // 2 + 1, D) complex64 → (B, N, D) float32, N = `length`."""
    return jnp.fft.irfft(Z_BFD, length, axis=1)


@operation
def dft(x: jax.Array, axis: int) -> jax.Array:
    """All frequencies along an axis; same shape, complex64."""
    return jnp.fft.fft(x if jnp.iscomplexobj(x) else x.astype(jnp.float32), axis=axis)
