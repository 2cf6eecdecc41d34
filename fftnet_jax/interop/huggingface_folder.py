"""A teacher's folder in Hugging Face's format: `config.json` and one or many `.safetensors` files."""

import json
from pathlib import Path

import ml_dtypes  # noqa: F401  NumPy learns "bfloat16" from it
import numpy as np
from safetensors import SafetensorError, safe_open

from fftnet_jax.errors import ConfigError

DTYPES = ("F32", "F16", "BF16")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")


class FolderCheckpoint:
    """Tensors by name, memory-mapped: `names()`, `shape(name)`, `read(name)`; `config` is the content of `config.json`.

    Raises:
      ConfigError: no such folder, or a file in it that is missing, cut short or not what it should be.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.config = _read_object(self.path / "config.json")
        self._files = {}  # tensor → open file
        for file in self._weight_files():
            try:
                opened = safe_open(file, "np")
            except (OSError, SafetensorError) as error:
                raise ConfigError(f"{file} must be a whole safetensors file: {_line(error)}") from None
            self._files |= dict.fromkeys(opened.keys(), opened)

    def names(self) -> set[str]:
        return set(self._files)

    def shape(self, name: str) -> tuple[int, ...]:
        part = self._files[name].get_slice(name)
        if part.get_dtype() not in DTYPES:
            raise ConfigError(f"{self.path}: {name} must be one of {', '.join(DTYPES)}, got {part.get_dtype()}")
        return tuple(part.get_shape())

    def read(self, name: str) -> np.ndarray:
        """The tensor in its own dtype."""
        return self._files[name].get_tensor(name)

    @property
    def tokenizer(self) -> str | None:
        """The tokenizer in the folder as `data.tokenizer` names it, None where there is none."""
        return f"hf:{self.path}" if any((self.path / name).is_file() for name in TOKENIZER_FILES) else None

    def _weight_files(self) -> list[Path]:
        index = self.path / "model.safetensors.index.json"
        if not index.is_file():
            file = self.path / "model.safetensors"
            if not file.is_file():
                raise ConfigError(
                    f"{self.path} must hold model.safetensors or model.safetensors.index.json; got neither"
                )
            return [file]
        parts = _read_object(index).get("weight_map")
        if not isinstance(parts, dict) or not all(isinstance(name, str) for name in parts.values()):
            raise ConfigError(f"{index}: weight_map must name a file for each tensor")
        files = [self.path / name for name in sorted(set(parts.values()))]
        for file in files:
            if file.parent != self.path or not file.is_file():
                raise ConfigError(f"{index} names {file.name!r}, which is not in the folder")
        return files


def download(name: str) -> Path:
    """The folder of the model `name` ("owner/model") of the Hugging Face hub, fetched once.

    Raises:
      ConfigError: it can't be fetched.
    """
    from huggingface_hub import snapshot_download

    patterns = ["config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer*", "vocab.json", "merges.txt"]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except Exception as error:  # the hub's client raises many kinds
        raise ConfigError(
            f"teacher {name!r} is no folder or file, and could not be fetched from the hub: {_line(error)}"
        ) from None


def _read_object(file: Path) -> dict:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file} must be a readable file: {error.strerror}") from None
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise ConfigError(f"{file} must hold a JSON object")
    return values


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
