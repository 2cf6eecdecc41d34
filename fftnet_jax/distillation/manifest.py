"""What a folder of teacher shards holds, and whether it is what somebody needs.

`manifest.json` names everything that the numbers depend on, and each finished shard with its SHA-256. A shard is a file
of records, one a token, in the order of the rows and of the tokens in them; see `Manifest.record`.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fftnet_jax.errors import ConfigError
from fftnet_jax.files import write_atomic

FORMAT = 1
NAME = "manifest.json"


@dataclass(frozen=True)
class Settings:
    """What the numbers in the shards depend on."""

    teacher: str  # SHA-256 of its files
    data: str  # fingerprint of the data set: text, tokenizer, lengths
    tokenizer: str  # SHA-256 of the student's tokenizer
    dtype: str  # the teacher's
    vocab_size: int  # the student's, over which the teacher's mass is given
    length: int  # tokens a row, at most
    rows: int  # of the training split
    rows_per_shard: int
    top_k: int  # 0 for all logits
    temperature: float  # of `norm` and `tail`
    format: int = FORMAT


@dataclass(frozen=True)
class Shard:
    """A finished file: rows `start` to `start + len(tokens)`, with so many tokens each."""

    file: str
    start: int
    tokens: tuple[int, ...]
    sha256: str


@dataclass(frozen=True)
class Manifest:
    settings: Settings
    shards: tuple[Shard, ...] = ()

    @property
    def complete(self) -> bool:
        return sum(len(shard.tokens) for shard in self.shards) == self.settings.rows

    @property
    def record(self) -> np.dtype:
        """One token: log-sum-exp of the teacher's logits, then what is kept of its distribution.

        With k > 0: `logps` the k highest log-probabilities, at temperature 1, with their `ids`; `norm` the log of the
        sum over all tokens of p^(1/T), so that logps / T - norm are log-probabilities at T; `tail` the log of the mass
        at T of all tokens beside the k. With k = 0: all `logps`.
        """
        s = self.settings
        if not s.top_k:
            return np.dtype([("lse", "<f4"), ("logps", "<f4", (s.vocab_size,))])
        id_type = "<u2" if s.vocab_size <= 1 << 16 else "<u4"
        scalars = [("lse", "<f4"), ("norm", "<f4"), ("tail", "<f4")]
        return np.dtype([*scalars, ("logps", "<f4", (s.top_k,)), ("ids", id_type, (s.top_k,))])

    def write(self, folder: Path) -> None:
        text = json.dumps(dataclasses.asdict(self), indent=1)
        write_atomic(folder / NAME, text.encode())


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest in `folder`, None where there is none.

    Raises:
      ConfigError: it can't be read, or is none.
    """
    file = folder / NAME
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        settings = Settings(**values["settings"])
        shards = tuple(Shard(**{**shard, "tokens": tuple(shard["tokens"])}) for shard in values["shards"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise ConfigError(f"{file} must be a manifest of teacher shards ({type(error).__name__})") from None
    manifest = Manifest(settings, shards)
    _check_types(manifest, file)
    return manifest


def check_same(found: Settings, wanted: Settings, folder: Path, ignored: tuple[str, ...] = ()) -> None:
    """Raises ConfigError, with both values, where two settings differ."""
    for field in dataclasses.fields(Settings):
        there, here = getattr(found, field.name), getattr(wanted, field.name)
        if there != here and field.name not in ignored:
            raise ConfigError(
                f"distillation.shards {folder} are for another {field.name}: {there!r} there, {here!r} here; "
                f"name another folder, or write them again"
            )


def _check_types(manifest: Manifest, file: Path) -> None:
    """A damaged manifest must not send a reader to other files or to huge allocations."""
    s = manifest.settings
    kinds = {"str": str, "int": int, "float": float}
    good = all(type(getattr(s, f.name)) is kinds[getattr(f.type, "__name__", f.type)] for f in dataclasses.fields(s))
    good = good and min(s.vocab_size, s.length, s.rows, s.rows_per_shard) > 0 and 0 <= s.top_k <= s.vocab_size
    start = 0
    for index, shard in enumerate(manifest.shards):
        good = good and shard.file == shard_name(index) and shard.start == start
        good = good and all(type(n) is int and 0 <= n <= s.length for n in shard.tokens)
        start += len(shard.tokens)
    if not good or start > s.rows:
        raise ConfigError(f"{file} must be a manifest of teacher shards; a field in it is out of range")


def shard_name(index: int) -> str:
    return f"shard-{index:05d}.bin"
