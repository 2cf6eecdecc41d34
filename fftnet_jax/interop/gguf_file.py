"""The header of a GGUF file: what it says of itself, and where its tensors lie.

Source of the format: ggml's docs/gguf.md, versions 2 and 3. The package gguf reads headers as well, but takes lengths
on trust and 2.5 s for 50,000 tokens; here every length is checked before anything is made of it.
"""

import functools
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fftnet_jax.errors import ConfigError

_CODES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}  # value types
_STRUCTS = {code: struct.Struct("<" + code) for code in _CODES.values()}
_STRING, _ARRAY = 8, 9
_MOST_AXES = 4


@dataclass(frozen=True)
class GGUFTensor:
    """Where a tensor lies: `shape` slowest axis first, `kind` its ggml type, `start` a byte of the file."""

    shape: tuple[int, ...]
    kind: int
    start: int


class GGUFFile:
    """The header of a GGUF file: `metadata` by key (arrays of numbers as NumPy's), `tensors` by name, `data` all bytes.

    `data` is uint8 (bytes,), memory-mapped. Every length is checked against the file's before anything is made of it.

    Raises:
      ConfigError: the file is missing, no GGUF file, cut short or damaged.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path).expanduser()
        try:
            # A plain array: each slice of NumPy's own kind costs microseconds, and vocabularies make 100,000 of them.
            self.data = np.asarray(np.memmap(self.path, np.uint8, "r"))
        except (OSError, ValueError) as error:  # ValueError: an empty file
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(f"{self.path} must be a readable GGUF file: {reason}") from None
        self._view = memoryview(self.data)
        self._offset = 0
        self._place = "its header"
        try:
            self._read()
        except UnicodeDecodeError:
            raise self._damaged("has text that is not UTF-8") from None

    def refusal(self, key: str, wanted: str) -> ConfigError:
        """The error for metadata `key`, which must `wanted`."""
        got = f"got {' '.join(str(self.metadata[key]).split())[:80]!r}" if key in self.metadata else "and is missing"
        return ConfigError(f"{self.path}: {key} must {wanted}, {got}; take another file")

    def choice(self, key: str, choices: Sequence[str], default: str = "") -> str:
        """The text of metadata `key`, which must be one of `choices`."""
        value = self.metadata.get(key, default)
        if not isinstance(value, str) or value not in choices:
            raise self.refusal(key, f"be one of {', '.join(choices)}")
        return value

    def _read(self) -> None:
        if bytes(self._view[:4]) != b"GGUF":
            raise ConfigError(f"{self.path} must be a GGUF file, got first bytes {bytes(self._view[:4])!r}")
        self._offset = 4
        version = self._number("I")
        if version not in (2, 3):
            raise ConfigError(
                f"{self.path}: GGUF version must be 2 or 3, little-endian, got {version}; convert it anew"
            )
        num_tensors, num_keys = self._count(24), self._count(13)
        self.metadata = {}
        for _ in range(num_keys):
            key = self._string()
            self._place = repr(key[:80])
            self.metadata[key] = self._value(self._number("I"))
        self._place = "its table of tensors"
        table = [self._tensor() for _ in range(num_tensors)]
        alignment = self.metadata.get("general.alignment", 32)
        if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
            raise self.refusal("general.alignment", "be a power of 2")
        base = -(-self._offset // alignment) * alignment
        self.tensors = {name: GGUFTensor(shape, kind, base + start) for name, shape, kind, start in table}

    def _value(self, kind: int):
        if kind == _STRING:
            return self._string()
        if kind in _CODES:
            return self._number(_CODES[kind])
        if kind != _ARRAY:
            raise self._damaged(f"has value type {kind}")
        kind = self._number("I")
        if kind == _STRING:
            return [self._string() for _ in range(self._count(8))]
        if kind not in _CODES:
            raise self._damaged(f"has an array of value type {kind}")
        dtype = np.dtype("<" + _CODES[kind])
        count = self._count(dtype.itemsize)
        return np.frombuffer(self._take(count * dtype.itemsize), dtype)

    def _tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._string()
        axes = self._number("I")
        if axes > _MOST_AXES:
            raise self._damaged(f"gives {name[:80]!r} {axes} axes")
        shape = tuple(self._number("Q") for _ in range(axes))[::-1]
        return name, shape, self._number("I"), self._number("Q")

    def _string(self) -> str:
        return str(self._take(self._number("Q")), "utf-8")

    def _count(self, size: int) -> int:
        """A number of things of at least `size` bytes each, which must fit in the rest of the file."""
        count = self._number("Q")
        if count * size > len(self._view) - self._offset:
            raise self._damaged(f"says {count} entries, more than the {len(self._view)} bytes can hold")
        return count

    def _number(self, code: str):
        form = _STRUCTS[code]
        return form.unpack(self._take(form.size))[0]

    def _take(self, size: int) -> memoryview:
        stop = self._offset + size
        if stop > len(self._view):
            raise self._damaged(f"reaches byte {stop} of {len(self._view)}")
        piece = self._view[self._offset : stop]
        self._offset = stop
        return piece

    def _damaged(self, what: str) -> ConfigError:
        return ConfigError(f"{self.path}: damaged or cut short: {self._place} {what}; fetch the file again")


def open_gguf(path: str | Path) -> GGUFFile:
    """`GGUFFile`, parsed once for as long as the file stays as it is: a teacher and its tokenizer share one."""
    path = Path(path).expanduser()
    try:
        found = path.stat()
    except OSError:
        return GGUFFile(path)  # which says what is wrong
    return _parsed(path, found.st_ino, found.st_mtime_ns, found.st_size)


@functools.lru_cache(maxsize=2)
def _parsed(path: Path, *_) -> GGUFFile:
    return GGUFFile(path)
