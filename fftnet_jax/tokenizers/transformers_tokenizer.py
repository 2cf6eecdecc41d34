"""Tokenizers of the transformers library."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fftnet_jax.errors import ConfigError
from fftnet_jax.tokenizers.base import checked_ids, register, without_surrogates


@register("hf", "hf:NAME_OR_FOLDER")
class HFTokenizer:
    """A tokenizer of the transformers library, from the hub or a folder. No special tokens are added.

    Raises:
      ConfigError: transformers is missing, or finds no tokenizer at `source`.
    """

    def __init__(self, source: str, name: str = ""):
        os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # "PyTorch was not found", and so on
        try:
            from transformers import AutoTokenizer
        except ImportError:
            raise ConfigError("data.tokenizer 'hf:...' needs transformers: pip install transformers") from None
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(source)
        except Exception as error:  # transformers raises many kinds, each with paragraphs of advice
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ConfigError(
                f"data.tokenizer 'hf:NAME_OR_FOLDER' found no tokenizer at {source!r} ({reason[:150]})"
            ) from None
        self.name = name or f"hf:{source}"
        self.vocab_size = len(self._tokenizer)
        self.eos_id = self._tokenizer.eos_token_id

    @classmethod
    def from_name(cls, rest: str, text: str) -> "HFTokenizer":
        return cls(rest)

    @classmethod
    def from_saved(cls, saved: dict, folder: Path) -> "HFTokenizer":
        return cls(str(folder), name=saved["name"])

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(without_surrogates(text), add_special_tokens=False, verbose=False)

    def encode_array(self, text: str) -> np.ndarray:
        return np.asarray(self.encode(text), np.int32)

    def decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(checked_ids(ids, self), clean_up_tokenization_spaces=False)

    def to_dict(self) -> dict:
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        content = backend.to_str() if backend else json.dumps(self._tokenizer.get_vocab(), sort_keys=True)
        return {"kind": "hf", "name": self.name, "sha256": hashlib.sha256(content.encode("utf-8")).hexdigest()}

    def save_folder(self, folder: Path) -> None:
        """Write all that `HFTokenizer(folder)` needs."""
        self._tokenizer.save_pretrained(str(folder))
