"""What a tokenizer is, and the registry of their kinds: a new one is a file whose class registers itself."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from fftnet_jax.errors import ConfigError
from fftnet_jax.files import write_atomic

_KINDS: dict[str, type] = {}
_FORMS: list[str] = []


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

    @classmethod
    def from_name(cls, rest: str, text: str) -> "Tokenizer":
        """The one that `data.tokenizer` names: `rest` is what follows the colon, `text` the text to be read."""

    @classmethod
    def from_saved(cls, saved: dict, folder: Path) -> "Tokenizer":
        """The one of which `to_dict` gave `saved`; where `save_folder(folder)` exists, it filled `folder`."""


def register(kind: str, *forms: str) -> Callable[[type], type]:
    """Class decorator of a tokenizer: `forms` are how `data.tokenizer` may name it, `kind` is in its `to_dict`."""

    def add(tokenizer: type) -> type:
        _KINDS[kind] = tokenizer
        _FORMS.extend(forms)
        return tokenizer

    return add


def get_tokenizer(name: str, text: str = "") -> Tokenizer:
    """The tokenizer that `data.tokenizer` names; `char` takes the characters of `text`, sorted, as its alphabet.

    Raises:
      ConfigError: an unknown form, or a tokenizer that can't be found.
    """
    kind, colon, rest = name.partition(":")
    if any(form.partition(":")[:2] == (kind, colon) for form in _FORMS) and bool(rest) == bool(colon):
        return _KINDS[kind].from_name(rest, text)
    raise ConfigError(f"data.tokenizer must be {', '.join(_FORMS[:-1])} or {_FORMS[-1]}, got {name!r}")


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
        return from_saved(json.loads(file.read_text(encoding="utf-8")), file.parent / "tokenizer")
    except FileNotFoundError as error:
        raise ConfigError(f"a run folder must hold tokenizer.json, but there is no {error.filename}") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{file} must be a tokenizer that this library saved ({type(error).__name__})") from None


def from_saved(saved: dict, folder: Path) -> Tokenizer:
    """The tokenizer of which `to_dict` gave `saved`; `folder` holds its own files, where it has some."""
    if saved["kind"] not in _KINDS:
        raise ConfigError(f"a saved tokenizer must have kind {', '.join(_KINDS)}, got {saved['kind']!r}")
    return _KINDS[saved["kind"]].from_saved(saved, folder)


def without_surrogates(text: str) -> str:
    """Pair surrogates up, and put U+FFFD for a lone one, which UTF-8 can't hold."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def checked_ids(ids: Sequence[int], tokenizer: Tokenizer) -> list[int]:
    ids = [int(i) for i in ids]
    for i in ids:
        if not 0 <= i < tokenizer.vocab_size:
            raise ConfigError(f"token ids must be in 0..{tokenizer.vocab_size - 1} ({tokenizer.name}), got {i}")
    return ids
