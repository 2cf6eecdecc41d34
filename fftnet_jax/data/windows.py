"""Random access to training and evaluation sequences.

Every source has a length, gives an item as a dict of `inputs` int32 (N,), `targets` int32 (N,) and `weights` float32
(N,), and a batch of items with `batch(indices)`, the same dict with arrays (B, N). Position n predicts `targets[n]`
with weight `weights[n]`, 0 for what does not count.
"""

import numpy as np

from fftnet_jax.errors import ConfigError


class Source:
    """Base of the sources: an item is a batch of one."""

    draws_anew = False  # whether `batch` makes use of `rng`

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        if not 0 <= index < len(self):
            raise IndexError(f"index must be in 0..{len(self) - 1}, got {index}")
        return {name: array[0] for name, array in self.batch(np.array([index])).items()}

    def __len__(self) -> int:
        raise NotImplementedError

    def batch(self, indices: np.ndarray, rng: np.random.Generator | None = None) -> dict[str, np.ndarray]:
        """Items `indices` (B,) as arrays (B, N). `rng` is for sources that draw something anew for each batch."""
        raise NotImplementedError


class TokenWindows(Source):
    """Next-token windows of `length` tokens, one each `stride` tokens, over `tokens` (T,)."""

    def __init__(self, tokens: np.ndarray, length: int, stride: int = 1):
        if len(tokens) < length + 1:
            raise ConfigError(f"data.length={length} needs at least {length + 1} tokens, got {len(tokens)}")
        self.tokens, self.length, self.stride = tokens, length, stride

    def __len__(self) -> int:
        return (len(self.tokens) - 1 - self.length) // self.stride + 1

    def batch(self, indices, rng=None):
        starts_B = np.asarray(indices, np.int64) * self.stride
        rows = np.asarray(self.tokens[starts_B[:, None] + np.arange(self.length + 1)], np.int32)
        return next_token(rows)


class EvalWindows(Source):
    """Windows of `length` tokens side by side that predict each of `tokens[1:]` once; the last is zero-padded."""

    def __init__(self, tokens: np.ndarray, length: int):
        if len(tokens) < 2:
            raise ConfigError(f"evaluation needs at least 2 tokens, got {len(tokens)}")
        self.tokens, self.length = tokens, length

    def __len__(self) -> int:
        return -(-(len(self.tokens) - 1) // self.length)

    def batch(self, indices, rng=None):
        places = np.asarray(indices, np.int64)[:, None] * self.length + np.arange(self.length + 1)
        real = places < len(self.tokens)
        rows = np.where(real, np.asarray(self.tokens[np.minimum(places, len(self.tokens) - 1)], np.int32), 0)
        batch = next_token(rows)
        batch["inputs"] *= real[:, 1:]  # the very last token predicts nothing
        batch["weights"] = real[:, 1:].astype(np.float32)
        return batch


class Subset(Source):
    """Items `start` to `stop` (exclusive) of `source`."""

    def __init__(self, source: Source, start: int, stop: int):
        self.source, self.start, self.stop = source, start, stop
        self.draws_anew = source.draws_anew

    def __len__(self) -> int:
        return self.stop - self.start

    def batch(self, indices, rng=None):
        return self.source.batch(np.asarray(indices) + self.start, rng)


def next_token(rows: np.ndarray) -> dict[str, np.ndarray]:
    """Rows (B, N+1) as inputs, the targets one token later, and weights of 1."""
    inputs, targets = rows[:, :-1].copy(), rows[:, 1:].copy()
    return {"inputs": inputs, "targets": targets, "weights": np.ones(inputs.shape, np.float32)}
