"""A tokenizer with only those tokens that some data has: a smaller vocabulary for the same cut of the text."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fftnet_jax.errors import ConfigError
from fftnet_jax.tokenizers.base import Tokenizer, checked_ids, from_saved, register


@register("reduced")
class ReducedTokenizer:
    """Ids 0..K-1 stand for the ids `kept` of `base`, in their order; id K, "other", stands for all the rest.

    "Other" is decoded as U+FFFD.

    Args:
      kept: int (K,), ascending ids of `base`, no two the same.

    Raises:
      ConfigError: `kept` is empty, unordered or not ids of `base`.
    """

    def __init__(self, base: Tokenizer, kept: np.ndarray):
        kept = np.asarray(kept)
        if (
            kept.ndim != 1
            or kept.dtype.kind not in "iu"
            or not kept.size
            or (np.diff(kept.astype(np.int64)) <= 0).any()
        ):
            raise ConfigError(
                f"kept must be whole numbers in ascending order, at least one, got {kept.dtype} of shape {kept.shape}"
            )
        checked_ids(kept[[0, -1]], base)
        self.base = base
        self.kept = kept.astype(np.int32)
        self.other_id = len(kept)
        self.vocab_size = len(kept) + 1
        self.name = f"{base.name} reduced to {len(kept)}"
        self._id_of_base = np.full(base.vocab_size, self.other_id, np.int32)
        self._id_of_base[self.kept] = np.arange(len(kept))
        self.eos_id = None if base.eos_id is None else int(self._id_of_base[base.eos_id])
        if self.eos_id == self.other_id:
            self.eos_id = None  # ends of texts can't be told from the rest

    @classmethod
    def from_saved(cls, saved: dict, folder: Path) -> "ReducedTokenizer":
        return cls(from_saved(saved["base"], folder), saved["kept"])

    @classmethod
    def from_ids(cls, base: Tokenizer, ids: np.ndarray) -> "ReducedTokenizer":
        """Keep what occurs in `ids`, of any shape, and the end-of-text token of `base` where it has one."""
        ends = [] if base.eos_id is None else [base.eos_id]
        return cls(base, np.union1d(np.asarray(ids, np.int64), np.asarray(ends, np.int64)))

    def from_base(self, ids: np.ndarray) -> np.ndarray:
        """Ids of `base`, of any shape, as int32 ids of this tokenizer."""
        ids = np.asarray(ids, np.int64)
        if ids.size:
            checked_ids([ids.min(), ids.max()], self.base)
        return self._id_of_base[ids]

    def encode(self, text: str) -> list[int]:
        return self.encode_array(text).tolist()

    def encode_array(self, text: str) -> np.ndarray:
        return self._id_of_base[self.base.encode_array(text)]

    def decode(self, ids: Sequence[int]) -> str:
        ids = np.asarray(checked_ids(ids, self), np.int32)
        others = np.flatnonzero(ids == self.other_id)
        runs = np.split(ids, np.sort(np.concatenate([others, others + 1])))  # the others are runs of their own
        return "".join(
            "\ufffd" if self.other_id in run else self.base.decode(self.kept[run]) for run in runs if run.size
        )

    def to_dict(self) -> dict:
        return {"kind": "reduced", "base": self.base.to_dict(), "kept": self.kept.tolist()}
