"""Associative recall: which value went with a key?"""

import numpy as np

from fftnet_jax.config import DataConfig
from fftnet_jax.data.splits import Dataset, split_rows
from fftnet_jax.data.windows import Source
from fftnet_jax.errors import ConfigError
from fftnet_jax.tasks.base import register
from fftnet_jax.tasks.next_tokens import NextTokens


@register("recall")
class Recall(NextTokens):
    """`data.num_samples` sequences of `RecallRows`; held-out ones ask once, at the end."""

    @staticmethod
    def check(data: DataConfig, family: str) -> None:
        if family == "encoder":
            raise ConfigError("data.source 'recall' needs model.family 'decoder', got 'encoder'")

    def load(self, data: DataConfig, seed: int = 0) -> Dataset:
        settings = {name: getattr(data, name) for name in ("num_keys", "num_values", "num_queries")}
        sizes = (data.num_samples, data.length, data.num_keys, data.num_values, seed)
        return split_rows(data, seed, settings, RecallRows(*sizes, data.num_queries), RecallRows(*sizes))


class RecallRows(Source):
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
