"""A run's folder: its configuration, its metrics file, and who may use it."""

import json
import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from fftnet_jax.config import Config, differences, from_dict, resume_policy, to_dict
from fftnet_jax.config.fields import DATA, FIXED, FREE
from fftnet_jax.errors import ConfigError
from fftnet_jax.files import write_atomic


class RunFolder:
    """`WORKDIR/config.json`, `metrics.jsonl`, `checkpoints/`, `tensorboard/`, plots and test figures."""

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def make(self) -> None:
        """Creates the folder, if it is not there; ConfigError unless it can be written."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise ConfigError(
                f"--workdir must be a folder that can be written, got {self.path}: {error.strerror}"
            ) from error

    def claim(self, config: Config, fingerprint: str, accept_changes: bool = False) -> list[str]:
        """Makes the folder this configuration's, or checks that it holds a run of the same configuration and data.

        Args:
          fingerprint: of the data: text, tokenizer, split.
          accept_changes: a run of another configuration goes on with this one; `changes.jsonl` keeps what changed.

        Returns: what changed and was accepted.

        Raises:
          ConfigError: it belongs to another configuration.
        """
        values, changed = {**to_dict(config), "data_fingerprint": fingerprint}, []
        if (self / "config.json").exists():
            lines = differences(self._read_current(), values)
            changed = [line for line in lines if _policy(line) != FREE]
            fixed = [line for line in changed if _policy(line) == FIXED]
            if fixed or (changed and not accept_changes):
                remedy = "" if fixed else "--accept_changes to go on with these values, "
                raise ConfigError(
                    f"--workdir {self.path} holds a run of another configuration ({'; '.join(changed[:3])}); "
                    f"take {remedy}another --workdir, or training.init_from to start from its parameters"
                )
            if changed:
                with (self / "changes.jsonl").open("a") as file:
                    file.write(json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "changed": changed}) + "\n")
        write_text(self / "config.json", json.dumps(values, indent=2) + "\n")
        return changed

    @staticmethod
    def keeps_data_order(changed: list[str]) -> bool:
        """Whether the batches go on where they were, after changes that `claim` accepted."""
        return all(_policy(line) != DATA for line in changed)

    def load_config(self) -> Config:
        """The configuration of the run in this folder.

        Raises:
          ConfigError: there is none, or it can't be read.
        """
        if not (self / "config.json").is_file():
            raise ConfigError(f"--workdir must be a folder that train.py wrote, and {self.path} has no config.json")
        values = self._read()
        values.pop("data_fingerprint", None)
        try:
            config = from_dict(values)
        except ConfigError as error:
            raise ConfigError(f"{self / 'config.json'}: {error}") from error
        if not config.model.vocab_size:  # train.py fills it in
            raise ConfigError(f"{self / 'config.json'}: model.vocab_size must be at least 1, got 0")
        return config

    def has_checkpoint(self) -> bool:
        return any(path.name.isdigit() for path in (self / "checkpoints").glob("*"))

    def keep_metrics_until(self, step: int) -> None:
        """Drops metric lines after `step`: the resumed run writes them again."""
        file = self / "metrics.jsonl"
        if file.exists():
            lines = [line.decode(errors="replace") for line, row in _rows(file) if row["step"] <= step]
            write_text(file, "".join(line + "\n" for line in lines))

    def add_metrics(self, row: dict) -> None:
        with (self / "metrics.jsonl").open("a") as file:
            file.write(to_json(row) + "\n")

    def _read_current(self) -> dict:
        """The stored configuration; fields that came after it have their defaults."""
        values = self._read()
        fingerprint = values.pop("data_fingerprint", None)
        try:
            return {**to_dict(from_dict(values)), "data_fingerprint": fingerprint}
        except ConfigError:
            return {**values, "data_fingerprint": fingerprint}

    def _read(self) -> dict:
        file = self / "config.json"
        try:
            values = json.loads(file.read_text())
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(f"{file} must be a configuration written by train.py, and can't be read") from error
        if not isinstance(values, dict):
            raise ConfigError(f"{file} must hold a JSON object, got {type(values).__name__}")
        return values


def read_metrics(file: Path) -> list[dict]:
    """The rows of a metrics file; a last line cut short by a kill, and what else is no row, is left out."""
    return [row for _, row in _rows(file)]


def _rows(file: Path) -> Iterator[tuple[bytes, dict]]:
    for line in file.read_bytes().split(b"\n"):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and type(row.get("step")) is int:
            yield line, row


def to_json(values: dict, indent: int | None = None) -> str:
    """JSON, with null for NaN and infinity, which it doesn't have."""
    finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
    return json.dumps(finite, indent=indent, allow_nan=False)


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    write_atomic(path, text.encode("utf-8"))


def _policy(line: str) -> str:
    """Of the field that a line of `differences` is about."""
    name = line.partition(":")[0]
    return DATA if name == "data_fingerprint" else resume_policy(name)
