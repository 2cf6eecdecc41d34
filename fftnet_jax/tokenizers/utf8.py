"""Bytes as tokens."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fftnet_jax.tokenizers.base import checked_ids, register, without_surrogates


@register("byte", "byte")
class ByteTokenizer:
    """The 256 bytes of UTF-8."""

    name = "byte"
    vocab_size = 256
    eos_id = None

    @classmethod
    def from_name(cls, rest: str, text: str) -> "ByteTokenizer":
        return cls()

    @classmethod
    def from_saved(cls, saved: dict, folder: Path) -> "ByteTokenizer":
        return cls()

    def encode(self, text: str) -> list[int]:
        return list(without_surrogates(text).encode("utf-8"))

    def encode_array(self, text: str) -> np.ndarray:
        return np.frombuffer(without_surrogates(text).encode("utf-8"), np.uint8).astype(np.int32)

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(checked_ids(ids, self)).decode("utf-8", errors="replace")

    def to_dict(self) -> dict:
        return {"kind": "byte"}
