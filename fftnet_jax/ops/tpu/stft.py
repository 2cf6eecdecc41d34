"""The causal STFT convolution for an accelerator: real spectra of overlapping blocks by a few large products.

The form `linear_phase` of `stft_forms`, where the mathematics stands, laid out for tiles of 8 × 128 numbers: cosines
and sines over the channels are the columns of one array, D together; a block's spectrum is made of its chunks' spectra.
By the TPU compiler's estimate (v5e, jax 0.10.2) forward and backward take 0.99 million cycles at (8, 1024, 256), W 64:
`python -m benchmarks.compile --only stft`.
"""

from functools import partial

import jax.numpy as jnp
import numpy as np

from fftnet_jax.ops.bins import REAL_IMAGINARY, bin_rows
from fftnet_jax.ops.linear import linear
from fftnet_jax.ops.precision import EXACT, THREE_PASSES
from fftnet_jax.ops.stft import stft_convolution
from fftnet_jax.ops.stft_forms import planned
from fftnet_jax.ops.stft_plan import plan_stft

LONGEST = 1024  # tokens of a block up to which its DFT is one product
TILE = 8  # rows that an array is padded to


def convolve(x_BND, weight_WDO, spectrum="real", norm="none", past_BPD=None, plan="auto", *, precision):
    """`stft_convolution`; `precision` is that of the products."""
    (batch, length, width), (window, _, out) = x_BND.shape, weight_WDO.shape
    past, hartley = past_BPD is not None, spectrum == "hartley"
    if plan == "auto":
        sizes = {"out": out, "past": past, "hartley": hartley, "backend": "accelerator"}
        plan = plan_stft(batch, length, width, window, **sizes)
    form = plan if isinstance(plan, str) else plan.form
    size = -(-(window - 1) // TILE) * TILE
    real = not hartley and window >= 2 and (past or window <= length)
    if form != "linear_phase" or not real or size > LONGEST:
        return planned(x_BND, weight_WDO, spectrum, norm, past_BPD, plan, backend="accelerator")
    weight_WDO = weight_WDO.astype(jnp.float32)
    if norm == "ortho":
        weight_WDO = weight_WDO * (window * width) ** -0.5
    return _linear_phase(x_BND, past_BPD, weight_WDO, size, partial(_product, precision=precision))


stft_convolution.implements("tpu")(partial(convolve, precision=THREE_PASSES))
stft_convolution.implements("gpu")(partial(convolve, precision=EXACT))


def _linear_phase(x_BND, past_BPD, weight_WDO, size, product):
    """Blocks of 2T tokens, T = `size` apart; columns E are cosines up to D / 2, sines beyond."""
    (batch, length, width), (window, _, out) = x_BND.shape, weight_WDO.shape
    chunks, is_cosine_E = -(-length // size), np.arange(width) <= width // 2
    ahead, x_BMD = 0, x_BND
    if past_BPD is not None:
        ahead, past_BPD = size, jnp.pad(past_BPD, ((0, 0), (size - window + 1, 0), (0, 0)))
        x_BMD = jnp.concatenate([past_BPD.astype(x_BND.dtype), x_BND], axis=1)
    z_BME = product("bmd,de->bme", x_BMD, _channel_basis(width))
    z_BCTE = jnp.pad(z_BME, ((0, 0), (0, chunks * size - length), (0, 0))).reshape(batch, -1, size, width)
    weight_WEO = _folded(weight_WDO)
    even_SEO, odd_SEO = (product("sw,weo->seo", matrix, weight_WEO) for matrix in _window_spectra(window, size))
    kernel_SEO = jnp.where(is_cosine_E[None, :, None], even_SEO, odd_SEO)

    data_SPBCE = _turned_spectra(z_BCTE, size, is_cosine_E, ahead, product)
    y_SPBCO = product("spbce,seo->spbco", data_SPBCE, kernel_SEO)
    y_BCTO = product("spt,spbco->bcto", _dft(size, size + 1 - window / 2, weighted=True), y_SPBCO)
    y_BNO = y_BCTO.reshape(batch, chunks * size, out)[:, :length]
    oldest_EO = jnp.where(is_cosine_E[:, None], weight_WEO.sum(0), 0.0)
    z_BNE = jnp.pad(z_BME, ((0, 0), (window - 1, 0), (0, 0)))[:, ahead : ahead + length]
    return y_BNO + product("bne,eo->bno", z_BNE, oldest_EO)


def _turned_spectra(z_BCTE, size, is_cosine_E, ahead, product):
    """Real and imaginary parts (S, 2, B, C, E) of the blocks' spectra, times -i for the sines.

    A block is a chunk and the one before it, whose spectrum is counted from T tokens earlier: a sign by bin.
    """
    dft_SPT = _dft(size)
    sign_S = jnp.asarray((-1.0) ** np.arange(size + 1), jnp.float32)[:, None, None, None]

    def spectrum(dft_ST):
        chunks_SBCE = product("st,bcte->sbce", dft_ST, z_BCTE)
        if not ahead:
            chunks_SBCE = jnp.pad(chunks_SBCE, ((0, 0), (0, 0), (1, 0), (0, 0)))
        return chunks_SBCE[:, :, :-1] + sign_S * chunks_SBCE[:, :, 1:]

    # Not as one array, which would be written before it is added up (5%).
    real_SBCE, imag_SBCE = spectrum(dft_SPT[:, 0]), spectrum(dft_SPT[:, 1])
    cosine = is_cosine_E[None, None, None]
    turned = jnp.where(cosine, real_SBCE, imag_SBCE), jnp.where(cosine, imag_SBCE, -real_SBCE)
    return jnp.stack(turned, axis=1)


def _dft(size, offset=0.0, weighted=False):
    rows_ST = bin_rows(np.arange(size + 1), np.arange(size) + offset, size, REAL_IMAGINARY, weighted)
    return rows_ST.reshape(size + 1, 2, size)


def _product(equation, a, b, precision):
    return jnp.einsum(equation, jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32), precision=precision)


def _channel_basis(width):
    angle = 2 * np.pi * (np.outer(np.arange(width), np.arange(width)) % width) / width
    return np.where(np.arange(width) <= width // 2, np.cos(angle), np.sin(angle))


def _folded(weight_WDO):
    """Sums of mirrored channels' weights for the cosines, differences for the sines."""
    width = weight_WDO.shape[1]
    place = np.arange(width)
    image = -place % width

    def mirror(_, weight_WDO):  # its own transpose, which JAX would make a scatter
        return weight_WDO[:, image]

    own = np.where(place == image, 0.5, 1.0)[None, :, None].astype(np.float32)
    sign = np.where(place <= width // 2, 1.0, -1.0)[None, :, None].astype(np.float32)
    return own * (weight_WDO + sign * linear(mirror, mirror, (), weight_WDO))


def _window_spectra(window, size):
    """Matrices (T + 1, W) from the weights to the real spectra of lags 0 to W - 2: for the cosines, for the sines."""
    place = np.arange(window - 1, 0, -1)
    angle = 2 * np.pi * (np.outer(place, np.arange(window)) % window) / window
    phase = np.pi * np.outer(np.arange(size + 1), window / 2 - place) / size
    return np.cos(phase) @ np.cos(angle), np.sin(phase) @ -np.sin(angle)
