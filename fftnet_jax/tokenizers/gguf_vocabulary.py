"""Tokenizers inside GGUF files."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fftnet_jax.errors import ConfigError
from fftnet_jax.files import write_atomic
from fftnet_jax.interop.gguf_file import GGUFFile, open_gguf
from fftnet_jax.interop.smollm2 import smollm2_path
from fftnet_jax.tokenizers.base import checked_ids, register, without_surrogates

_CONTROL, _USER_DEFINED = 3, 4  # token types that are matched in a text as a whole

_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# How a text is cut before merges, by `tokenizer.ggml.pre`: as the tokenizer.json of SmolLM2, Qwen2, GPT-2 and Llama 3.
PRE_TYPES = {
    "smollm": None,
    "gpt-2": None,
    "default": None,
    "qwen2": _QWEN2,
    "llama-bpe": _QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|"),
}


@register("gguf", "gguf:FILE", "gguf:smollm2")
class GGUFTokenizer:
    """The byte-level BPE tokenizer in a GGUF file, rebuilt with the tokenizers library. No special tokens are added.

    As in a Hugging Face tokenizer, the name of a special token in a text becomes that token. Bytes that the vocabulary
    lacks (SmolLM2's lacks some that valid text hardly has) vanish.

    Args:
      source: a GGUF file, or "smollm2".

    Raises:
      ConfigError: the tokenizers library or the file is missing, or the file holds no tokenizer of a known kind.
    """

    def __init__(self, source: str | Path):
        file = open_gguf(smollm2_path() if source == "smollm2" else source)
        self._set(_build(file), f"gguf:{file.path.name}", _eos_id(file))

    @classmethod
    def from_name(cls, rest: str, text: str) -> "GGUFTokenizer":
        return cls(rest)

    @classmethod
    def from_saved(cls, saved: dict, folder: Path) -> "GGUFTokenizer":
        tokenizers, file = _library(), folder / "tokenizer.json"
        content = file.read_text(encoding="utf-8")
        if hashlib.sha256(content.encode("utf-8")).hexdigest() != saved["sha256"]:
            raise ConfigError(f"{file} must be as it was saved, and has another SHA-256")
        self = cls.__new__(cls)
        try:
            tokenizer = tokenizers.Tokenizer.from_str(content)
        except Exception as error:  # of an older version, for which the library raises plain Exception
            raise ConfigError(f"{file} must be a tokenizer of the tokenizers library: {error}") from None
        self._set(tokenizer, saved["name"], saved["eos_id"])
        return self

    def encode(self, text: str) -> list[int]:
        return self.encode_batch([text])[0]

    def encode_array(self, text: str) -> np.ndarray:
        return np.asarray(self.encode(text), np.int32)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text."""
        texts = [without_surrogates(text) for text in texts]
        return [found.ids for found in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(checked_ids(ids, self), skip_special_tokens=False)

    def to_dict(self) -> dict:
        sha256 = hashlib.sha256(self._tokenizer.to_str().encode("utf-8")).hexdigest()
        return {"kind": "gguf", "name": self.name, "eos_id": self.eos_id, "sha256": sha256}

    def save_folder(self, folder: Path) -> None:
        """Write all that `from_saved` needs, the GGUF file not included."""
        write_atomic(folder / "tokenizer.json", self._tokenizer.to_str().encode("utf-8"))

    def _set(self, tokenizer, name: str, eos_id: int | None) -> None:
        self._tokenizer, self.name, self.eos_id = tokenizer, name, eos_id
        self.vocab_size = tokenizer.get_vocab_size()


def _library():
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # else it warns when a process that used it forks
    try:
        import tokenizers
    except ImportError:
        raise ConfigError("data.tokenizer 'gguf:...' needs tokenizers: pip install tokenizers") from None
    return tokenizers


def _build(file: GGUFFile):
    """The tokenizers library's tokenizer for the metadata of `file`."""
    library = _library()
    file.choice("tokenizer.ggml.model", ("gpt2",))  # byte-level BPE
    pre = file.choice("tokenizer.ggml.pre", tuple(PRE_TYPES), "default")
    tokens, merges = _texts(file, "tokens"), _texts(file, "merges")
    vocab = {token: i for i, token in enumerate(tokens)}
    kinds = file.metadata.get("tokenizer.ggml.token_type", np.ones(len(tokens), np.int32))
    if len(vocab) < len(tokens) or np.shape(kinds) != (len(tokens),):
        raise ConfigError(
            f"{file.path}: tokenizer.ggml.tokens must be different and have a token_type each, "
            f"got {len(tokens)} tokens, {len(vocab)} different, and {np.size(kinds)} types"
        )
    pairs = [tuple(merge.split(" ")) for merge in merges]
    if any(len(pair) != 2 or not set(pair) <= vocab.keys() for pair in pairs):
        raise ConfigError(f"{file.path}: tokenizer.ggml.merges must be pairs of tokens; take another file")
    try:
        tokenizer = library.Tokenizer(library.models.BPE(vocab, pairs, ignore_merges=pre == "llama-bpe"))
    except Exception as error:  # the library raises plain Exception, as for a merge that makes no token
        raise ConfigError(f"{file.path}: tokenizer.ggml.merges must make tokens: {error}") from None
    if pre == "qwen2":
        tokenizer.normalizer = library.normalizers.NFC()
    tokenizer.pre_tokenizer = _pre_tokenizer(library.pre_tokenizers, pre)
    tokenizer.decoder = library.decoders.ByteLevel()
    for kind in (_CONTROL, _USER_DEFINED):
        whole = [tokens[i] for i in np.flatnonzero(np.asarray(kinds) == kind)]
        tokenizer.add_tokens(
            [library.AddedToken(token, special=kind == _CONTROL, normalized=False) for token in whole if token]
        )
    return tokenizer


def _pre_tokenizer(parts, pre: str):
    """`parts` is the library's module of them."""
    if PRE_TYPES[pre] is not None:
        from tokenizers import Regex

        cut = parts.Split(Regex(PRE_TYPES[pre]), behavior="isolated")
        return parts.Sequence([cut, parts.ByteLevel(add_prefix_space=False, use_regex=False)])
    bytes_ = parts.ByteLevel(add_prefix_space=False)  # its own regex is GPT-2's
    return parts.Sequence([parts.Digits(individual_digits=True), bytes_]) if pre == "smollm" else bytes_


def _texts(file: GGUFFile, name: str) -> list[str]:
    value = file.metadata.get(f"tokenizer.ggml.{name}")
    if not isinstance(value, list) or (not value and name == "tokens"):
        raise file.refusal(f"tokenizer.ggml.{name}", "be a list of texts")
    return value


def _eos_id(file: GGUFFile) -> int | None:
    eos_id, size = file.metadata.get("tokenizer.ggml.eos_token_id"), len(file.metadata["tokenizer.ggml.tokens"])
    if eos_id is not None and (type(eos_id) is not int or not 0 <= eos_id < size):
        raise file.refusal("tokenizer.ggml.eos_token_id", f"be in 0..{size - 1}")
    return eos_id
