"""DFTs as products on a TPU, real and imaginary parts apart: one product up to `SINGLE` points, two stages beyond.

Factors are of the input's type, sums float32.
"""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

from fftnet_jax.ops.fourier import channel_dft, irfft, real_token_dft, rfft
from fftnet_jax.ops.precision import EXACT

SINGLE = 1024  # points
LARGEST = 2048  # factor of two stages


@rfft.implements("tpu")
def transform(u_BND):
    length = u_BND.shape[1]
    if not _fits(length):
        return rfft.reference(u_BND)
    count = length // 2 + 1
    real, imag = _over_tokens(u_BND, None, count)
    return jax.lax.complex(real[:, :count], imag[:, :count])


@irfft.implements("tpu")
def inverse(Z_BFD, length, dtype=jnp.float32):
    if not _fits(length):
        return irfft.reference(Z_BFD, length, dtype)
    place_F = np.arange(length // 2 + 1)
    # A frequency stands for its conjugate too, but for those that have none.
    weight_F = np.where((place_F == 0) | (2 * place_F == length), 1.0, 2.0) / length
    weight_1F1 = jnp.asarray(weight_F, jnp.float32)[None, :, None]
    # The real part of the conjugate's DFT is that of the inverse one.
    real, imag = ((weight_1F1 * part).astype(dtype) for part in (Z_BFD.real, -Z_BFD.imag))
    return _over_tokens(real, imag, length)[0].astype(dtype)


@channel_dft.implements("tpu")
def channels(x_BND):
    width = x_BND.shape[2]
    if x_BND.dtype != jnp.bfloat16 or width > LARGEST:  # exact products would take longer than FFTs (8%)
        return channel_dft.reference(x_BND)
    parts = _turned("ed,bnd->bne", _waves(width, width), x_BND, None)
    return [part.astype(x_BND.dtype) for part in parts]


@real_token_dft.implements("tpu")
def tokens(spectrum):
    length = spectrum[0].shape[1]
    if len(spectrum) == 1:
        return real_token_dft.reference(spectrum)
    if not _fits(length):
        return real_token_dft.reference([jax.lax.complex(*(part.astype(jnp.float32) for part in spectrum))])
    return _over_tokens(*spectrum, length)[0].astype(spectrum[0].dtype)


def _over_tokens(real, imag, count):
    """Real and imaginary part of the DFT over the tokens: the first `count` frequencies or more, float32.

    Args:
      imag: None for zeros, and then both parts are given, else the real one only.
    """
    length = max(count, real.shape[1]) if imag is not None else real.shape[1]
    if length <= SINGLE:
        return _turned("kn,bnd->bkd", _waves(count, length)[:, :, : real.shape[1]], real, imag)
    first, second = _factors(length)
    missing = length - real.shape[1]
    real, imag = (
        part if part is None else jnp.pad(part, ((0, 0), (0, missing), (0, 0))).reshape(len(part), first, second, -1)
        for part in (real, imag)
    )
    # Token second n + m, frequency k + first q: over n, then a turn by k m, then over m.
    both = _turned("kn,bnmd->bkmd", _waves(first, first), real, imag, both=True)
    cos, sin = (jnp.asarray(wave, jnp.float32)[None, :, :, None] for wave in _waves(first, second, length))
    turned = both[0] * cos + both[1] * sin, both[1] * cos - both[0] * sin
    parts = (part.astype(real.dtype) for part in turned)
    found = _turned("qm,bkmd->bqkd", _waves(second, second), *parts, both=imag is None)
    return [part.reshape(len(part), length, -1) for part in found]


def _turned(equation, waves, real, imag, both=False) -> Iterable[jax.Array]:
    """The sums of (cos - i sin) (real + i imag), float32: real and imaginary part, or the real one only."""
    cos, sin = (jnp.asarray(wave, real.dtype) for wave in waves)
    how = {"precision": EXACT if real.dtype == jnp.float32 else None, "preferred_element_type": jnp.float32}

    def product(wave, x):
        return jnp.einsum(equation, wave, x, **how)

    if imag is None:
        return product(cos, real), -product(sin, real)
    found = product(cos, real) + product(sin, imag)
    return (found, product(cos, imag) - product(sin, real)) if both else (found,)


def _waves(frequencies: int, places: int, points: int | None = None) -> np.ndarray:
    """Cosines and sines (2, frequencies, places) of a DFT of `points`, by default as many as places."""
    points = points or places
    angle = 2 * np.pi * (np.outer(np.arange(frequencies), np.arange(places)) % points) / points
    return np.stack([np.cos(angle), np.sin(angle)])


def _fits(length: int) -> bool:
    return length <= SINGLE or _factors(length)[1] <= LARGEST


def _factors(length: int) -> tuple[int, int]:
    """The two factors that are nearest to each other, the smaller one first."""
    first = next(factor for factor in range(int(length**0.5), 0, -1) if length % factor == 0)
    return first, length // first
