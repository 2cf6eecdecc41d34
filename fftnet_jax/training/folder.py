"""A run's folder: its configuration, its metrics file, and who may use it."""

import json
import math
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from fftnet_jax.config import Config, ConfigError, differences, from_dict, to_dict

# Fields that change neither the parameters nor the numbers in the metrics file; text counts by its fingerprint.
FREE_FIELDS = ("data.text_file", "data.folder", "training.log_every", "training.histogram_every", "sample.", "mesh.")
# Fields without which the stored arrays fit nothing: no flag lets them change.
FIXED_FIELDS = ("model.", "training.optimizer:")
# Fields that decide which batch comes next: where they change, the data's order begins anew.
DATA_FIELDS = ("data", "seed:", "distillation.")


class StorageError(Exception):
    """The disk is full, the folder vanished, or can't be written any more; what was saved before is intact."""


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
            changed = [line for line in lines if not line.startswith(FREE_FIELDS)]
            fixed = [line for line in changed if line.startswith(FIXED_FIELDS)]
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
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)
