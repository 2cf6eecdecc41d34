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
        return _next_token(rows)


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
        batch = _next_token(rows)
        batch["inputs"] *= real[:, 1:]  # the very last token predicts nothing
        batch["weights"] = real[:, 1:].astype(np.float32)
        return batch


class MaskedWindows(Source):
    """Masked-token prediction over the windows of `source`, for encoders.

    Each position that counts in `source` is masked with probability `mask_rate`, and at least one is: its input becomes
    `mask_id`, its target is the input token that stood there, and only masked positions have weight. Item `i` is masked
    by (seed, i) alone; a batch that is given an `rng` draws fresh masks, so that training sees new ones each epoch.
    """

    draws_anew = True

    def __init__(self, source: Source, mask_rate: float, mask_id: int, seed: int):
        self.source, self.mask_rate, self.mask_id, self.seed = source, mask_rate, mask_id, seed

    def __len__(self) -> int:
        return len(self.source)

    def batch(self, indices, rng=None):
        batch = self.source.batch(indices)
        shape = batch["inputs"].shape
        if rng is None:
            draws = np.stack([np.random.default_rng([self.seed, int(i)]).random(shape[1]) for i in indices])
        else:
            draws = rng.random(shape)
        draws = np.where(batch["weights"] > 0, draws, np.inf)
        masked = draws < self.mask_rate
        masked[np.arange(len(masked)), draws.argmin(axis=1)] = True
        masked &= batch["weights"] > 0
        return {
            "inputs": np.where(masked, np.int32(self.mask_id), batch["inputs"]),
            "targets": batch["inputs"],
            "weights": masked.astype(np.float32),
        }


class Patterns(Source):
    """Random tokens with copies in them, next-token items: the synthetic task of the original FFTNet.

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
        return _next_token(rows)


class Recall(Source):
    """Associative recall: key-value pairs in the first half, keys alone in the second, and their values to predict.

    Tokens 0..num_keys-1 are keys, the next num_values are values. A sequence draws one value per key. Its first half is
    made of (key, value) pairs, every key at least once, in random order; its second half is random keys, and the last
    `num_queries` positions of it have weight: their targets are their keys' values. With one query that is the last
    token, and every pair is at least half a sequence away. Item `i` depends on (seed, i) alone.

    Raises:
      ConfigError: the pairs or the queries don't fit.
    """

    def __init__(self, num_samples: int, length: int, num_keys: int, num_values: int, seed: int, num_queries: int = 1):
        half = length // 2
        if num_keys > half // 2:
            raise ConfigError(
                f"data.num_keys must be at most data.length / 4 ({half // 2}) to fit the pairs in the first half, "
                f"got {num_keys}"
            )
        if num_queries > length - half:
            raise ConfigError(
                f"data.num_queries must be at most half of data.length ({length - half}), got {num_queries}"
            )
        self.num_samples, self.length, self.seed = num_samples, length, seed
        self.num_keys, self.num_values, self.num_queries = num_keys, num_values, num_queries
        self.vocab_size = num_keys + num_values

    def __len__(self) -> int:
        return self.num_samples

    def batch(self, indices, rng=None):
        keys, pairs = self.num_keys, self.length // 4
        asked = self.length - 2 * pairs
        draws = np.stack([np.random.default_rng([self.seed, int(i)]).random(keys + 2 * pairs + asked) for i in indices])
        value_draw, key_draw, order_draw, asked_draw = np.split(draws, np.cumsum([keys, pairs, pairs]), axis=1)
        values_BK = (value_draw * self.num_values).astype(np.int32) + keys
        keys_BP = (key_draw * keys).astype(np.int64)
        keys_BP[:, :keys] = np.arange(keys)  # every key at least once, before the order is drawn
        keys_BP = np.take_along_axis(keys_BP, order_draw.argsort(axis=1), axis=1)
        pairs_BPT = np.stack([keys_BP, np.take_along_axis(values_BK, keys_BP, axis=1)], axis=-1)
        asked_BQ = (asked_draw * keys).astype(np.int64)
        inputs = np.concatenate([pairs_BPT.reshape(len(draws), -1), asked_BQ], axis=1).astype(np.int32)
        targets, weights = np.zeros_like(inputs), np.zeros(inputs.shape, np.float32)
        targets[:, 2 * pairs :] = np.take_along_axis(values_BK, asked_BQ, axis=1)
        weights[:, -self.num_queries :] = 1
        return {"inputs": inputs, "targets": targets, "weights": weights}


class Subset(Source):
    """Items `start` to `stop` (exclusive) of `source`."""

    def __init__(self, source: Source, start: int, stop: int):
        self.source, self.start, self.stop = source, start, stop
        self.draws_anew = source.draws_anew

    def __len__(self) -> int:
        return self.stop - self.start

    def batch(self, indices, rng=None):
        return self.source.batch(np.asarray(indices) + self.start, rng)


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


def _next_token(rows: np.ndarray) -> dict[str, np.ndarray]:
    """Rows (B, N+1) as inputs, the targets one token later, and weights of 1."""
    inputs, targets = rows[:, :-1].copy(), rows[:, 1:].copy()
    return {"inputs": inputs, "targets": targets, "weights": np.ones(inputs.shape, np.float32)}
