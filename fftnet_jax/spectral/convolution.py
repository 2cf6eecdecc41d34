"""Causal depthwise convolution: y[n] = sum over lags l <= n of h[l] u[n-l], channel by channel."""

import jax
import jax.numpy as jnp

from fftnet_jax.spectral import bins
from fftnet_jax.spectral.fft import irfft, rfft

LARGEST_SPECTRUM = 2**26  # points of the FFTs that run at once: half a gigabyte of spectra
SEGMENT = 128  # rows of a segment in the gradient of a short convolution on CPU
DIRECT_LIMIT = 32  # tokens up to which a Toeplitz product is cheap on CPU; it is exactly causal


def causal_convolution(u_BND: jax.Array, h_LD: jax.Array, form: str = "auto") -> jax.Array:
    """Linear (never circular) causal convolution of each channel with its own filter.

    Args:
      u_BND: input (B, N, D), any real type; computed in float32.
      h_LD: filter taps by lag (L, D); lags from N on never matter, missing ones count as zero.
      form: "direct" (the definition, O(N²)), "fft" (O(N log N)), "matrix" (the DFTs as two stages of matrix products,
        for accelerators whose products are faster than their FFTs; only on demand, as it is not measured there yet),
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
    if form == "direct":
        return _direct(u_BND, h_LD)
    if form == "fft":
        return _fft(u_BND, h_LD)
    if form == "matrix":
        return _matrix(u_BND, h_LD)
    raise ValueError(f"form must be 'auto', 'direct', 'fft' or 'matrix', got {form!r}")


@jax.custom_vjp
def short_convolution(x_BMD: jax.Array, taps_KD: jax.Array) -> jax.Array:
    """Causal depthwise convolution with few taps, as a sum of shifted slices; keeps the dtype of x.

    Args:
      x_BMD: the K - 1 tokens before the first output, then those of the N outputs (M = N + K - 1).

    Returns: (B, N, D).

    Raises:
      ValueError: fewer tokens than taps.
    """
    taps, length = len(taps_KD), x_BMD.shape[1] - len(taps_KD) + 1
    if length < 1:
        raise ValueError(f"need at least as many tokens as taps, got input {x_BMD.shape} and taps {taps_KD.shape}")
    taps_KD = taps_KD.astype(x_BMD.dtype)
    return sum(taps_KD[lag][None, None] * _span(x_BMD, taps - 1 - lag, length) for lag in range(taps))


def _short_forward(x_BMD, taps_KD):
    return short_convolution(x_BMD, taps_KD), (x_BMD, taps_KD)


def _short_backward(residuals, dy_BND):
    # The barrier keeps what only the gradient needs from being formed, and held, in the forward pass already.
    (x_BMD, taps_KD), dy_BND = jax.lax.optimization_barrier((residuals, dy_BND))
    taps = len(taps_KD)
    padded = jnp.pad(dy_BND, ((0, 0), (taps - 1, taps - 1), (0, 0)))
    kernel_KD = taps_KD.astype(dy_BND.dtype)
    dx_BMD = sum(kernel_KD[lag][None, None] * _span(padded, lag, x_BMD.shape[1]) for lag in range(taps))
    return dx_BMD, _taps_gradient(x_BMD, padded, taps).astype(taps_KD.dtype)


def _taps_gradient(x_BMD, padded, taps):
    """Sum of dy[n] x[n - lag] for each lag and channel, a segment of tokens at a time on CPU, where the running sums,
    one for each place in a segment, stay in its caches. `padded` has K - 1 zeros around dy, which is not kept too."""
    batch, length, width = x_BMD.shape
    length -= taps - 1
    size = min(max(1, SEGMENT // batch), length) if jax.default_backend() == "cpu" else length
    segments = length // size

    def products(start, size):
        x_BSD = jax.lax.dynamic_slice_in_dim(x_BMD, start, size + taps - 1, axis=1).astype(jnp.float32)
        dy_BSD = jax.lax.dynamic_slice_in_dim(padded, start + taps - 1, size, axis=1).astype(jnp.float32)
        return [dy_BSD * _span(x_BSD, taps - 1 - lag, size) for lag in range(taps)]

    def add(index, totals):
        return [total + more for total, more in zip(totals, products(index * size, size), strict=True)]

    totals = [jnp.zeros((batch, size, width))] * taps
    totals = jax.lax.fori_loop(0, segments, add, totals) if segments > 1 else products(0, size)
    rest = length - segments * size
    parts = [totals, products(segments * size, rest)] if rest else [totals]
    return sum(jnp.stack([total.sum((0, 1)) for total in part]) for part in parts)


short_convolution.defvjp(_short_forward, _short_backward)


def _span(x_BND, start, length):
    return jax.lax.slice_in_dim(x_BND, start, start + length, axis=1)


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
    return jnp.einsum("dnm,bmd->bnd", toeplitz_DNM, u_BND)


def _fft(u_BND, h_LD):
    length = u_BND.shape[1]
    size = fast_length(length + h_LD.shape[0] - 1)  # room for the whole linear convolution
    u_BDN, h_DL = u_BND.swapaxes(1, 2), h_LD.T
    batch, width, _ = u_BDN.shape
    group = max(1, LARGEST_SPECTRUM // (batch * size))
    if group >= width:
        y_BDN = irfft(rfft(u_BDN, size) * rfft(h_DL, size)[None], size)[..., :length]
        return y_BDN.swapaxes(1, 2)
    # Very long sequences a few channels at a time, so that only their spectra exist at once.
    group = next(count for count in range(group, 0, -1) if width % count == 0)
    parts = u_BDN.reshape(batch, -1, group, length).swapaxes(0, 1), h_DL.reshape(-1, group, h_DL.shape[1])

    def convolve(part):
        u_BGN, h_GL = part
        return irfft(rfft(u_BGN, size) * rfft(h_GL, size)[None], size)[..., :length]

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
