"""Random tokens with copies in them: the synthetic task of the original FFTNet."""

import numpy as np

from fftnet_jax.config import DataConfig
from fftnet_jax.data.splits import Dataset, split_rows
from fftnet_jax.data.windows import Source, next_token
from fftnet_jax.tasks.base import register
from fftnet_jax.tasks.next_tokens import NextTokens


@register("patterns")
class Patterns(NextTokens):
    """`data.num_samples` sequences of `PatternRows`."""

    def load(self, data: DataConfig, seed: int = 0) -> Dataset:
        settings = {"vocab_size": data.vocab_size, "complexity": data.pattern_complexity}
        rows = PatternRows(data.num_samples, data.length, data.vocab_size, data.pattern_complexity, seed)
        return split_rows(data, seed, settings, rows, rows)


class PatternRows(Source):
    """Random tokens with copies in them, next-token items.

    A row is `length` + 1 uniform tokens; then, int(10 × `complexity`) times, a run of 2 to 5 tokens is copied to a
    later place, and half of the time a pair of tokens is repeated right after itself. Row `i` depends on (seed, i)
    alone.
    """

    def __init__(self, num_samples: int, length: int, vocab_size: int, complexity: float, seed: int):
        self.num_samples, self.length, self.vocab_size = num_samples, length, vocab_size
        self.num_copies, self.seed = int(10 * complexity), seed

    def __len__(self) -> int:
        return self.num_samples

    def batch(self, indices, rng=None):
        rngs = [np.random.default_rng([self.seed, int(i)]) for i in indices]
        size = self.length + 1
        rows = np.stack([rng.integers(0, self.vocab_size, size, dtype=np.int32) for rng in rngs])
        if size >= 4:  # room for a pair and its copy
            draws = np.stack([rng.random((self.num_copies, 5)) for rng in rngs])
            for copy in range(self.num_copies):
                _copy_runs(rows, draws[:, copy])
        return next_token(rows)


def _copy_runs(rows: np.ndarray, draws: np.ndarray) -> None:
    """Copy one run in each of `rows` (B, N+1), in place, and a pair in half of them; `draws` (B, 5) in [0, 1)."""
    size, each = rows.shape[1], np.arange(len(rows))
    run = 2 + (draws[:, 0] * (min(5, size // 2) - 1)).astype(np.int64)
    start = (draws[:, 1] * (size - 2 * run + 1)).astype(np.int64)
    place = start + run + (draws[:, 2] * (size - 2 * run - start + 1)).astype(np.int64)
    pair = (draws[:, 3] * (size - 3)).astype(np.int64)
    for step in range(5):
        b = each[step < run]
        rows[b, place[b] + step] = rows[b, start[b] + step]
    b = each[draws[:, 4] < 0.5]
    for step in range(2):
        rows[b, pair[b] + 2 + step] = rows[b, pair[b] + step]
