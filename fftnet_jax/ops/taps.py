"""Causal depthwise convolution with any taps: y[n] = sum over lags l <= n of h[l] u[n-l], channel by channel."""

import jax
import jax.numpy as jnp

from fftnet_jax.ops import bins
from fftnet_jax.ops.precision import EXACT

LARGEST_SPECTRUM = 2**26  # points of the FFTs that run at once: half a gigabyte of spectra
DIRECT_LIMIT = 32  # tokens up to which a Toeplitz product is cheap; it is exactly causal


def causal_convolution(u_BND: jax.Array, h_LD: jax.Array, form: str = "auto") -> jax.Array:
    """Linear (never circular) causal convolution of each channel with its own filter.

    Args:
      u_BND: input (B, N, D), any real type; computed in float32.
      h_LD: filter taps by lag (L, D); lags from N on never matter, missing ones count as zero.
      form: "direct" (the definition, O(N²)), "fft" (O(N log N)), "matrix" (the DFTs as two stages of matrix products),
        or "auto", which chooses by N between the first two.

    Returns: (B, N, D) float32.

    Raises:
      ValueError: no tokens or taps, another number of channels, or an unknown form.
    """
    length = u_BND.shape[1]
    if length < 1 or len(h_LD) < 1 or u_BND.shape[2] != h_LD.shape[1]:
        raise ValueError(f"need N >= 1, L >= 1 and the same D, got input {u_BND.shape} and taps {h_LD.shape}")
    u_BND, h_LD = u_BND.astype(jnp.float32), h_LD[:length].astype(jnp.float32)
    if form == "auto":
        form = "direct" if length <= DIRECT_LIMIT else "fft"
    if form not in _FORMS:
        raise ValueError(f"form must be 'auto', 'direct', 'fft' or 'matrix', got {form!r}")
    return _FORMS[form](u_BND, h_LD)


def fast_length(minimum: int) -> int:
    """Smallest 2^a 3^b 5^c, b and c up to 3, that is at least `minimum`: a length that FFTs handle fast."""
    best = 1 << (minimum - 1).bit_length()
    for fives in (1, 5, 25, 125):
        for threes in (1, 3, 9, 27):
            odd = fives * threes
            twos = max(0, (-(-minimum // odd) - 1).bit_length())
            best = min(best, odd << twos)
    return best


def _direct(u_BND, h_LD):
    length = u_BND.shape[1]
    h_DL = jnp.pad(h_LD, ((0, length - h_LD.shape[0]), (0, 0))).T
    lag_NM = jnp.arange(length)[:, None] - jnp.arange(length)[None, :]
    toeplitz_DNM = jnp.where(lag_NM >= 0, jnp.take(h_DL, jnp.abs(lag_NM), axis=1), 0.0)
    return jnp.einsum("dnm,bmd->bnd", toeplitz_DNM, u_BND, precision=EXACT)


def _fft(u_BND, h_LD):
    length = u_BND.shape[1]
    size = fast_length(length + h_LD.shape[0] - 1)  # room for the whole linear convolution
    u_BDN, h_DL = u_BND.swapaxes(1, 2), h_LD.T
    batch, width, _ = u_BDN.shape

    def convolve(part):
        u_BGN, h_GL = part
        return jnp.fft.irfft(jnp.fft.rfft(u_BGN, size) * jnp.fft.rfft(h_GL, size)[None], size)[..., :length]

    group = max(1, LARGEST_SPECTRUM // (batch * size))
    if group >= width:
        return convolve((u_BDN, h_DL)).swapaxes(1, 2)
    # Very long sequences a few channels at a time, so that only their spectra exist at once.
    group = next(count for count in range(group, 0, -1) if width % count == 0)
    parts = u_BDN.reshape(batch, -1, group, length).swapaxes(0, 1), h_DL.reshape(-1, group, h_DL.shape[1])
    return jax.lax.map(convolve, parts).swapaxes(0, 1).reshape(batch, width, length).swapaxes(1, 2)


def _matrix(u_BND, h_LD):
    """Source of the two stages in place of an FFT: Monarch (Dao et al. 2022, arXiv 2204.00595)."""
    batch, length, width = u_BND.shape
    size = length if length <= bins.SINGLE_STAGE else -(-length // 64) * 64  # two stages need factors
    u_TBD = jnp.pad(u_BND.transpose(1, 0, 2), ((0, size - length), (0, 0), (0, 0)))
    a_FBD, b_FBD = _parts(bins.to_bins(u_TBD, size, bins.REAL_IMAGINARY))
    c_FBD, d_FBD = _parts(bins.to_bins(h_LD[:, None], size, bins.REAL_IMAGINARY))
    Y_F2BD = jnp.stack([a_FBD * c_FBD - b_FBD * d_FBD, a_FBD * d_FBD + b_FBD * c_FBD], axis=1)
    y_TBD = bins.from_bins(Y_F2BD.reshape(-1, batch, width), size, bins.REAL_IMAGINARY)
    return y_TBD[:length].transpose(1, 0, 2)


def _parts(U):
    """Real and imaginary part of each bin."""
    pairs = U.reshape(-1, 2, *U.shape[1:])
    return pairs[:, 0], pairs[:, 1]


_FORMS = {"direct": _direct, "fft": _fft, "matrix": _matrix}
