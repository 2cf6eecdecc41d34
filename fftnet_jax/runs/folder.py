"""A run's folder: its configuration, its metrics file, and who may use it."""

import json
import math
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from fftnet_jax.config import Config, differences, from_dict, resume_policy, to_dict
from fftnet_jax.config.fields import DATA, FIXED, FREE
from fftnet_jax.errors import ConfigError
from fftnet_jax.files import write_atomic
from fftnet_jax.models.sizes import same_parameters
from fftnet_jax.runs.seal import is_sealed

# What a start leaves that ends before its first checkpoint. Not what was set aside: `damaged/`, `diverged/`.
FILES = ("metrics.jsonl", "changes.jsonl", "tokenizer.json", "loss.png", "filters.png")
LEFTOVERS = (*FILES, "tensorboard", "checkpoints")


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

        A start that ended before its first checkpoint left no run: what it wrote is taken away.

        Raises:
          ConfigError: it belongs to another configuration.
        """
        values, changed = {**to_dict(config), "data_fingerprint": fingerprint}, []
        if (self / "config.json").exists():
            stored = self._read_current()
            lines = differences(stored, values)
            changed = [line for line in lines if _policy(line) != FREE]
            if changed and self._never_got_far():
                self._clear()
                changed = []
            fixed = [line for line in changed if _policy(line) == FIXED]
            if fixed or (changed and not accept_changes):
                remedies = [] if fixed else ["--accept_changes to go on with these values"]
                remedies.append("another --workdir")
                if self.has_checkpoint() and same_parameters(stored.get("model"), config.model):
                    remedies.append("training.init_from to start from its parameters")
                raise ConfigError(
                    f"--workdir {self.path} holds a run of another configuration ({'; '.join(changed[:3])}); "
                    f"take {', '.join(remedies[:-1])}{' or ' if remedies[1:] else ''}{remedies[-1]}"
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
        """Whether a checkpoint was ever finished here: one that a kill cut short is none."""
        return any(is_sealed(path) for path in (self / "checkpoints").glob("[0-9]*"))

    def after_stop(self) -> str:
        """What to say where a run stopped at once."""
        if self.has_checkpoint():
            return "stopped; the same command goes on from the last checkpoint"
        return "stopped; nothing was saved yet, the same command starts anew"

    def _never_got_far(self) -> bool:
        """Whether a start of train.py ended here before its first checkpoint.

        Another program's folder, with a config.json of its own, is none of ours; and a run that is finished, or whose
        checkpoints were taken away or set aside as damaged, is a run.
        """
        values = self._read()
        if "data_fingerprint" not in values or self.has_checkpoint() or (self / "test_metrics.json").exists():
            return False
        del values["data_fingerprint"]
        try:
            from_dict(values)
        except ConfigError:
            return False
        return not any(is_sealed(path) for path in (self / "damaged").glob("*"))

    def _clear(self) -> None:
        for path in (self / name for name in LEFTOVERS):
            for inside in path.iterdir() if path.is_dir() else (path,):  # a folder itself may be a link
                if inside.is_dir():
                    shutil.rmtree(inside)
                else:
                    inside.unlink(missing_ok=True)

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
