"""The causal STFT convolution without windows.

All of it is linear and the matrix of the spectrum is symmetric, so it is a causal convolution whose kernel is the
spectrum of the weight: no window is ever formed. `plan_stft` chooses among the forms; every form gives the same
numbers.
"""

from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np

from fftnet_jax.ops import bins
from fftnet_jax.ops.dense import matmul
from fftnet_jax.ops.linear import after, linear
from fftnet_jax.ops.precision import EXACT
from fftnet_jax.ops.products import map_first_axis, matmul_by_bin
from fftnet_jax.ops.stft import stft_convolution
from fftnet_jax.ops.stft_plan import STFTPlan, four_products, plan_stft

PARTS = 2  # of the bins, one after the other: the memory of one serves the next
GROUP = 2**24  # numbers in the copies of the input that one product of the direct form takes


def planned(
    x_BND: jax.Array,
    weight_WDO: jax.Array,
    spectrum: str = "real",
    norm: str = "none",
    past_BPD: jax.Array | None = None,
    plan: STFTPlan | str = "auto",
    *,
    backend: str,
) -> jax.Array:
    """`stft_convolution` by a plan, made for a `backend` where only a form is named."""
    x_BND, weight_WDO = x_BND.astype(jnp.float32), weight_WDO.astype(jnp.float32)
    batch, length, width = x_BND.shape
    window, _, out = weight_WDO.shape
    past, hartley = past_BPD is not None, spectrum == "hartley"
    if isinstance(plan, str):
        sizes = {"out": out, "past": past, "hartley": hartley, "backend": backend}
        plan = plan_stft(batch, length, width, window, form=plan, **sizes)
    if plan.form in ("blocks", "linear_phase") and plan.block < 1:
        raise ValueError(f"form {plan.form!r}: block must be at least 1, got {plan.block}")
    if plan.form == "windows":
        return stft_convolution.reference(x_BND, weight_WDO, spectrum, norm, past_BPD)
    if norm == "ortho":
        weight_WDO = weight_WDO * (window * width) ** -0.5
    if past:
        past_BPD = past_BPD.astype(jnp.float32)
    if plan.form == "linear_phase":
        if hartley or window < 2 or (not past and length < window):
            raise ValueError("form 'linear_phase' needs spectrum 'real' and 2 <= W <= N; use 'blocks' or 'auto'")
        if plan.block < window - 1:
            raise ValueError(f"form 'linear_phase' of {plan.block} tokens can't take a window of {window}")
        return _linear_phase(x_BND, past_BPD, weight_WDO, plan.block)
    kernel = _Kernel(weight_WDO, hartley, window if past else min(window, length), plan.features)
    if plan.features == "data":
        basis_DE = jnp.asarray(np.concatenate(_real_dft(width), axis=1), jnp.float32)
        x_BND = _product(x_BND, basis_DE)
        past_BPD = _product(past_BPD, basis_DE) if past else None
    form = _direct if plan.form == "direct" else _blocks
    return form(x_BND, past_BPD, kernel, plan.block)


def _product(x, weight):
    return jnp.matmul(x, weight, precision=EXACT)


class _Kernel:
    """The transformed weight, at chosen lags only.

    Real data has a symmetric spectrum, so the weights of mirrored frequencies are added first: half of the work.
    Over the channels the transform meets either the kernel or, as `features` of the data, the input.
    """

    def __init__(self, weight_WDO, hartley, lags, features):
        self.window, self.width = weight_WDO.shape[:2]
        self.lags, self.features = lags, features
        # cos(a+b) = cos a cos b - sin a sin b; the Hartley kernel cos + sin of a+b has all four products.
        if hartley:
            ee, oe, eo, oo = _fold(weight_WDO, ((1, 1), (-1, 1), (1, -1), (-1, -1)))
            self.terms = (ee, oe), (eo, oo)
        else:
            ee, oo = _fold(weight_WDO, ((1, 1), (-1, -1)))
            self.terms = (ee, None), (None, oo)

    def taps(self, lags_L: np.ndarray, after=None) -> jax.Array:
        """(len(lags_L), D, O), zero at lags from `lags` on; or `after` @ them, in one product."""
        cos, sin = _real_dft(self.window)
        place = np.clip(self.window - 1 - lags_L, 0, self.window - 1)
        inside = (lags_L < self.lags)[:, None]
        matrices = ((cos[place] * inside, sin[place] * inside), (cos[place] * inside, -sin[place] * inside))
        # One group of (weight, matrix over the lags) for the cosines over the channels, one for the sines.
        groups = [
            [(h, matrix if after is None else after @ matrix) for h, matrix in zip(*both, strict=True) if h is not None]
            for both in zip(self.terms, matrices, strict=True)
        ]
        if self.features == "kernel":
            bases = [jnp.asarray(basis, jnp.float32) for basis in _real_dft(self.width)]
            both = zip(groups, bases, strict=True)
            groups = [
                [(jnp.einsum("de,keo->kdo", basis, h, precision=EXACT), m) for group, basis in both for h, m in group]
            ]
        parts = [
            map_first_axis(np.concatenate([m for _, m in group], axis=1), jnp.concatenate([h for h, _ in group]))
            for group in groups
        ]
        return jnp.concatenate(parts, axis=1)


def _direct(x_BND, past_BPD, kernel, _):
    """The kernel's taps times the tokens at their lags, a group of lags to a product."""
    length, lags = x_BND.shape[1], kernel.lags
    taps_LDO = kernel.taps(np.arange(lags))
    x_BMD = _behind(x_BND, past_BPD, lags - 1)
    group = max(1, GROUP // x_BND.size)
    total = None
    for lag in range(0, lags, group):
        first = 0 if past_BPD is not None else lag  # without a past, earlier tokens have nothing at this lag
        starts = [lags - 1 - later + first for later in range(lag, min(lag + group, lags))]
        lagged = [jax.lax.slice_in_dim(x_BMD, start, start + length - first, axis=1) for start in starts]
        taps_FO = taps_LDO[lag : lag + group].reshape(-1, taps_LDO.shape[-1])
        y_BNO = jnp.pad(_product(jnp.concatenate(lagged, axis=2), taps_FO), ((0, 0), (first, 0), (0, 0)))
        total = y_BNO if total is None else total + y_BNO
    return total


def _blocks(x_BND, past_BPD, kernel, size):
    """Overlap-save with the kernel in partitions of T lags, three real products a complex one, or four where the kernel
    is most of what is read: its spectrum then has two rows a bin instead of three.

    Source: overlap-save, Stockham 1966; partitioned convolution, Kulp 1988.
    """
    length, partitions = x_BND.shape[1], -(-kernel.lags // size)
    four = four_products(len(x_BND) * -(-length // size))
    data, kernels, result = (bins.REAL_IMAGINARY,) * 3 if four else (bins.DATA, bins.KERNEL, bins.RESULT)
    lags_TP = np.arange(size)[:, None] + size * np.arange(partitions)[None]
    if partitions == 1 and size <= bins.SINGLE_STAGE:
        H_SDO = kernel.taps(lags_TP[:, 0], bins.row_matrix(size, kernels))
    else:
        H = kernel.taps(lags_TP.ravel())
        H = bins.to_bins(H.reshape(size, partitions, *H.shape[1:]), size, kernels)
        H_SDO = H.reshape(H.shape[0], -1, H.shape[-1])
    X_SBCD = _spectra(x_BND, past_BPD, size, partitions, data)
    if four:
        a_FBCD, b_FBCD = X_SBCD[::2], X_SBCD[1::2]
        rows = [jnp.concatenate(pair, axis=3) for pair in ((a_FBCD, -b_FBCD), (b_FBCD, a_FBCD))]
        Y_F2BCO = matmul_by_bin(jnp.stack(rows, axis=1), H_SDO.reshape(size + 1, -1, H_SDO.shape[2]))
        Y_SBCO = Y_F2BCO.reshape(-1, *Y_F2BCO.shape[2:])
    else:
        Y_SBCO = matmul_by_bin(X_SBCD[:, None], H_SDO)[:, 0]
    return _unchunk(bins.from_bins(Y_SBCO, size, result, offset=size), length)


def _linear_phase(x_BND, past_BPD, weight_WDO, size):
    """Overlap-save with real spectra: two real products a complex one.

    By window position n the kernel is even about W/2 for the cosines over the channels, odd for the sines, but for
    n = 0, which has no mirror and is a product of its own. So its spectrum is a phase, which is moved into the
    inverse DFT, times a real number (even) or i times one (odd: the data are turned by -i instead).
    """
    (batch, length, width), (window, _, out) = x_BND.shape, weight_WDO.shape
    folded = even_KEO, _ = _fold(weight_WDO, ((1, 1), (-1, -1)))
    bases = [jnp.asarray(basis, jnp.float32) for basis in _real_dft(width)]
    features = [(_product(x_BND, basis), None if past_BPD is None else _product(past_BPD, basis)) for basis in bases]
    halves = [_halves(*z, size, 1) for z in features]
    y_TBCO = 0.0
    for index in range(PARTS):
        part = index, PARTS
        products = [
            matmul_by_bin(
                _pairs(bins.to_bins(halves_TBCE, size, rows, 2 * size - len(halves_TBCE), part)),
                map_first_axis(matrix, h_KEO),
            )
            for halves_TBCE, rows, matrix, h_KEO in zip(
                halves, (bins.REAL_IMAGINARY, bins.TURNED), _real_spectra(window, size, part), folded, strict=True
            )
        ]
        Y_SBCO = sum(products).reshape(-1, batch, halves[0].shape[2], out)
        y_TBCO += bins.from_bins(Y_SBCO, size, bins.REAL_IMAGINARY, offset=size + 1 - window / 2, part=part)
    oldest_BNE = _behind(*features[0], window - 1)[:, :length]
    return _unchunk(_finished(y_TBCO), length) + matmul(oldest_BNE, even_KEO.sum(0), EXACT)


def _real_spectra(window, size, part):
    """Matrices from the folded window positions to the real spectra, one for the cosines, one for the sines."""
    cos, sin = _real_dft(window)
    places = np.arange(window - 1, 0, -1)  # of lags 0 to W - 2
    angle = np.pi * np.outer(bins.bin_order(size, part), window / 2 - places) / size
    return np.cos(angle) @ cos[places], np.sin(angle) @ -sin[places]


def _pairs(X_SBCE):
    return X_SBCE.reshape(len(X_SBCE) // 2, 2, *X_SBCE.shape[1:])


def _finished(y_TBCO):
    """y, for which every gradient waits: what both passes need is not held at once."""

    def transpose(y_1BCO, dy_TBCO):
        return after(dy_TBCO, y_1BCO)

    return linear(lambda _, y_TBCO: y_TBCO, transpose, jax.lax.stop_gradient(y_TBCO[:1]), y_TBCO)


def _behind(x_BND, past_BPD, count):
    """x behind `count` earlier tokens: the past, or zeros."""
    if past_BPD is None:
        return jnp.pad(x_BND, ((0, 0), (count, 0), (0, 0)))
    return jnp.concatenate([past_BPD, x_BND], axis=1)


def _spectra(x_BND, past_BPD, size, partitions, rows):
    """Spectra (S, B, C, P D) of blocks of 2T tokens, each T behind the one before; those of P blocks side by side."""
    chunks = -(-x_BND.shape[1] // size)
    halves_TBCD = _halves(x_BND, past_BPD, size, partitions)
    X_SBCD = bins.to_bins(halves_TBCD, size, rows, offset=2 * size - len(halves_TBCD))
    X_SBCD = jnp.pad(X_SBCD, ((0, 0), (0, 0), (chunks + partitions - 1 - X_SBCD.shape[2], 0), (0, 0)))
    return jnp.concatenate([X_SBCD[:, :, p : p + chunks] for p in range(partitions)[::-1]], axis=3)


def _halves(x_BND, past_BPD, size, partitions):
    """(2T, B, C, D): blocks of 2T tokens, each T behind the one before; T where the earlier half holds nothing.

    Of the tokens before x, zeros or the past, the blocks hold up to P T. Each chunk of T tokens is there twice, as a
    block's earlier and later half: adding up spectra of halves would take more passes through memory.
    """
    length = x_BND.shape[1]
    chunks, held = -(-length // size), partitions * size
    ahead = 0 if past_BPD is None else past_BPD.shape[1]
    if chunks == 1 and not ahead:
        return _chunks(jnp.pad(x_BND, ((0, 0), (0, size - length), (0, 0))), size)
    x_BMD = x_BND if past_BPD is None else jnp.concatenate([past_BPD, x_BND], axis=1)
    first = held if ahead else size  # without a past, blocks further back hold nothing
    x_BMD = jnp.pad(x_BMD, ((0, 0), (first - ahead, chunks * size - length), (0, 0)))
    halves_TBCD = _chunks(x_BMD, size)
    return jnp.concatenate([halves_TBCD[:, :, :-1], halves_TBCD[:, :, 1:]])


def _chunks(x_BMD, size):
    """(T, B, C, D): the tokens in chunks of T."""
    batch, length, width = x_BMD.shape
    return x_BMD.reshape(batch, length // size, size, width).transpose(2, 0, 1, 3)


def _unchunk(y_TBCO, length):
    size, batch, chunks, out = y_TBCO.shape
    return y_TBCO.transpose(1, 2, 0, 3).reshape(batch, chunks * size, out)[:, :length]


def _fold(weight_WDO, signs):
    """Adds the weights of mirrored frequencies, over the window and the channels, once for each pair of signs.

    A sign of 1 gives the sums (n//2 + 1 of them), -1 the differences ((n-1)//2).
    """
    unfold = partial(_unfolded, signs, weight_WDO.shape[:2])
    return linear(lambda _, weight_WDO: [_folded(weight_WDO, pair) for pair in signs], unfold, (), weight_WDO)


def _folded(weight_WDO, signs):
    # One gather for each mirror image: slices, reversed and padded, would be written out before they are added.
    sides = [_mirror(count, sign) for count, sign in zip(weight_WDO.shape[:2], signs, strict=True)]
    total = 0.0
    for rows_K, row_factors in sides[0]:
        for columns_E, column_factors in sides[1]:
            factor_KE1 = jnp.asarray(np.multiply.outer(row_factors, column_factors)[:, :, None], weight_WDO.dtype)
            total = total + factor_KE1 * weight_WDO[rows_K[:, None], columns_E[None]]
    return total


def _mirror(count, sign):
    """Each frequency of the sums or differences and its mirror image: places and factors, 0 where it is its own."""
    place = np.arange(count // 2 + 1) if sign == 1 else np.arange(1, (count + 1) // 2)
    image = -place % count
    return (place, np.ones(len(place))), (image, sign * (place != image))


def _unfolded(signs, counts, _, gradients):
    # One gather each way: what JAX would write, pads of reversed pads, runs at a quarter of the speed on CPU.
    places = [np.minimum(np.arange(n), n - np.arange(n)) for n in counts]
    total = 0.0
    for gradient, pair in zip(gradients, signs, strict=True):
        edges = [(0, 0) if sign == 1 else (1, n // 2 - (n - 1) // 2) for n, sign in zip(counts, pair, strict=True)]
        mirrored = [np.where(np.arange(n) <= n // 2, 1, sign) for n, sign in zip(counts, pair, strict=True)]
        sign_WD1 = jnp.asarray(np.multiply.outer(*mirrored)[:, :, None], gradient.dtype)
        whole = jnp.pad(gradient, (*edges, (0, 0)))[places[0][:, None], places[1][None]]
        total = total + sign_WD1 * whole
    return total


@lru_cache(maxsize=64)
def _real_dft(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines (n, n//2 + 1) and sines (n, (n-1)//2) of the frequencies that real data has."""
    angle = 2 * np.pi * (np.outer(np.arange(count), np.arange(count)) % count) / count
    return np.cos(angle[:, : count // 2 + 1]), np.sin(angle[:, 1 : (count + 1) // 2])
