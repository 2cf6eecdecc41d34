"""A short DFT as real matrix products: up to 2T samples, then zeros, to the T + 1 bins of a real DFT of 2T points.

Each bin becomes a few real rows, combinations of its real and imaginary part, chosen so that what follows needs
real products only: three rows for a product of two complex numbers,

    (a + bi) (c + di) = ((a+b) c - b (c+d)) + ((a+b) c + a (d-c)) i,

two where the other spectrum is real. Up to `SINGLE_STAGE` samples the rows are one matrix; more take two stages
(Cooley and Tukey 1965).
"""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from fftnet_jax.ops.precision import EXACT
from fftnet_jax.ops.products import map_first_axis

SINGLE_STAGE = 128
ALL = (0, 1)

# Weights of (real, imaginary) in each row of a bin.
REAL_IMAGINARY = ((1, 0), (0, 1))
TURNED = ((0, 1), (-1, 0))  # the same of -i times the spectrum
DATA, KERNEL, RESULT = ((1, 1), (1, 0), (0, 1)), ((1, 0), (-1, 1), (1, 1)), ((1, 1), (0, 1), (-1, 0))


def to_bins(x: jax.Array, samples: int, rows: tuple, offset: float = 0.0, part: tuple[int, int] = ALL) -> jax.Array:
    """(up to 2T samples, …) → (T + 1 bins × rows, …), a bin's rows side by side, bins in the order of `bin_order`.

    Args:
      samples: T.
      offset: the place of the first sample; the spectrum is that of the samples moved behind so many zeros.
      part: (index, count), for one of so many parts of the bins.
    """
    split, length = _split(samples), x.shape[0]
    if length > 2 * samples:
        raise ValueError(f"at most 2T = {2 * samples} samples, got {length}")
    if split is None:
        return map_first_axis(row_matrix(samples, rows, offset, count=length, part=part), x)
    second = split[1]  # sample t = second * a + b
    x = jnp.pad(x, ((0, -length % second), *((0, 0),) * (x.ndim - 1)))
    lines, inner, edges = _stages(samples, rows, offset, False, part)
    rest = x.shape[1:]
    x = x.reshape(len(x) // second, second, *rest)  # not -1: there may be no channels
    V = map_first_axis(lines[:, : len(x)], x)  # (lines, second, …): the real ones, then pairs
    middle = V[len(edges) :].reshape(len(inner), 2 * second, *rest)
    body = jnp.einsum("isb,ib...->is...", jnp.asarray(inner, x.dtype), middle, precision=EXACT)
    body = body.reshape(inner.shape[0] * inner.shape[1], *rest)
    return jnp.concatenate([body, *(map_first_axis(edge, line) for edge, line in zip(edges, V, strict=False))])


def from_bins(Y: jax.Array, samples: int, rows: tuple, offset: float = 0.0, part: tuple[int, int] = ALL) -> jax.Array:
    """(T + 1 bins × rows, …) → (T, …): the inverse DFT at places offset .. offset + T - 1.

    Args:
      part: as in `to_bins`; the parts' results add up.
    """
    split = _split(samples)
    if split is None:
        return map_first_axis(row_matrix(samples, rows, offset, True, part=part).T, Y)
    first, second = split
    lines, inner, edges = _stages(samples, rows, offset, True, part)
    rest = Y.shape[1:]
    *ends, _ = np.cumsum([inner.shape[0] * inner.shape[1], *(len(edge) for edge in edges)])
    body, *ends = jnp.split(Y, ends)
    body = body.reshape(*inner.shape[:2], *rest)
    middle = jnp.einsum("isb,is...->ib...", jnp.asarray(inner, Y.dtype), body, precision=EXACT)
    V = [map_first_axis(edge.T, end)[None] for edge, end in zip(edges, ends, strict=True)]
    V = jnp.concatenate([*V, middle.reshape(2 * len(inner), second, *rest)])
    return map_first_axis(lines[:, : first // 2].T, V).reshape(samples, *rest)


def bins_cost(samples: int, rows: int, count: int | None = None) -> int:
    """Multiplications for one column of `to_bins` with `count` samples, T by default, or of `from_bins`."""
    split, count = _split(samples), count or samples
    if split is None:
        return rows * (samples + 1) * count
    first, second = split
    return count * first + rows * first * second**2


@lru_cache(maxsize=64)
def bin_order(samples: int, part: tuple[int, int] = ALL) -> np.ndarray:
    """The frequency, in turns over 2T samples, of each bin; those of two stages count up to 2T."""
    split = _split(samples)
    if split is None:
        return _share(np.arange(samples + 1), part)
    inner = _inner_bins(split, part)
    return np.concatenate([inner.ravel(), *_edge_bins(samples, split, part)])


@lru_cache(maxsize=64)
def row_matrix(
    samples: int,
    rows: tuple,
    offset: float = 0.0,
    weighted: bool = False,
    count: int | None = None,
    part: tuple[int, int] = ALL,
) -> np.ndarray:
    """The whole transform of `count` samples, T by default, as one matrix, (T + 1 bins × rows, count), float64.

    `weighted` as in the inverse DFT, `part` as in `to_bins`.
    """
    return bin_rows(bin_order(samples, part), np.arange(count or samples) + offset, samples, rows, weighted)


@lru_cache(maxsize=64)
def _split(samples: int) -> tuple[int, int] | None:
    """Factors (L1, L2) of 2T for the two stages with the fewest multiplications, or None for a single one."""
    if samples <= SINGLE_STAGE:
        return None
    pairs = [(even, 2 * samples // even) for even in range(4, samples, 2) if 2 * samples % even == 0]
    cost = {(a, b): samples * a + 3 * a * b * b for a, b in pairs} | {None: 3 * samples**2}
    return min(cost, key=cost.get)


@lru_cache(maxsize=64)
def _stages(samples: int, rows: tuple, offset: float, weighted: bool, part: tuple[int, int]) -> tuple:
    """Matrices of the first stage, of the second for most bins, and of the second for the two lines that are real."""
    first, second = split = _split(samples)
    bins = _inner_bins(split, part)[:, :, None]
    angle = 2 * np.pi * (np.outer(bins[:, 0, 0], np.arange(first)) % first) / first
    pairs = np.stack([np.cos(angle), -np.sin(angle)], axis=1).reshape(2 * len(bins), first)
    places = np.arange(second) + offset
    angle = np.pi * (bins * places % (2 * samples)) / samples
    cos, sin = np.cos(angle), np.sin(angle)
    real, imaginary = np.concatenate([cos, sin], axis=2), np.concatenate([-sin, cos], axis=2)
    inner = np.stack([a * real + b * imaginary for a, b in rows], axis=2)
    inner = inner.reshape(len(bins), len(rows) * second, 2 * second) / (samples if weighted else 1)
    edges = [bin_rows(bins, places, samples, rows, weighted) for bins in _edge_bins(samples, split, part)]
    alternating = np.stack([np.ones(first), np.cos(np.pi * np.arange(first))])
    return np.concatenate([alternating[: len(edges)], pairs]), inner, edges


def _inner_bins(split, part):
    """The bins (lines, second) of a part's lines of the first stage that are complex."""
    first, second = split
    return _share(np.arange(1, first // 2), part)[:, None] + first * np.arange(second)[None]


def _edge_bins(samples, split, part):
    """The bins of the two lines that are real; the last part has them."""
    first, second = split
    lines = (start + first * np.arange(second) for start in (0, first // 2))
    return [bins[bins <= samples] for bins in lines] if part[0] == part[1] - 1 else []


def _share(bins, part):
    return np.array_split(bins, part[1])[part[0]]


def bin_rows(bins, places, samples, rows, weighted):
    """The rows (bins × rows, places) of some bins, in turns over 2T samples, for real samples at some places.

    `weighted` as in the inverse DFT.
    """
    angle = np.pi * (np.outer(bins, places) % (2 * samples)) / samples
    real, imaginary = np.cos(angle), -np.sin(angle)
    parts = np.stack([a * real + b * imaginary for a, b in rows], axis=1)
    if weighted:  # a bin stands for its conjugate too, but for the two real ones
        parts = parts * np.where(bins % samples == 0, 0.5, 1.0)[:, None, None] / samples
    return parts.reshape(-1, len(places))
