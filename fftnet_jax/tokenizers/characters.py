"""Characters as tokens."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fftnet_jax.errors import ConfigError
from fftnet_jax.tokenizers.base import checked_ids, register


@register("char", "char")
class CharTokenizer:
    """One token per character of `alphabet`, in its order.

    Raises:
      ConfigError: the alphabet is empty or repeats a character; later, text with a character that it lacks.
    """

    name = "char"
    eos_id = None

    def __init__(self, alphabet: str):
        if not alphabet or len(set(alphabet)) != len(alphabet):
            raise ConfigError(f"alphabet must hold different characters, at least one, got {alphabet!r}")
        self.alphabet = alphabet
        self.vocab_size = len(alphabet)
        codes = _code_points(alphabet)
        self._id_of_code = np.full(int(codes.max()) + 2, -1, np.int32)  # the last entry stands for every higher code
        self._id_of_code[codes] = np.arange(len(codes))

    @classmethod
    def from_name(cls, rest: str, text: str) -> "CharTokenizer":
        return cls("".join(sorted(set(text))))

    @classmethod
    def from_saved(cls, saved: dict, folder: Path) -> "CharTokenizer":
        return cls(saved["alphabet"])

    def encode(self, text: str) -> list[int]:
        return self.encode_array(text).tolist()

    def encode_array(self, text: str) -> np.ndarray:
        ids = self._id_of_code[np.minimum(_code_points(text), len(self._id_of_code) - 1)]
        if ids.size and ids.min() < 0:
            missing = "".join(dict.fromkeys(text[i] for i in np.flatnonzero(ids < 0)))
            more = f" and {len(missing) - 10} more" if len(missing) > 10 else ""
            raise ConfigError(
                f"text has {missing[:10]!r}{more}, not in the vocabulary of the char tokenizer "
                f"({self.vocab_size} characters)"
            )
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self.alphabet[i] for i in checked_ids(ids, self))

    def to_dict(self) -> dict:
        return {"kind": "char", "alphabet": self.alphabet}


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
