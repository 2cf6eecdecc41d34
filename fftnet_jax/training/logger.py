"""Where a run's numbers go: metrics.jsonl, TensorBoard and the progress bar."""

import contextlib
import sys
import threading
import time

import jax
import numpy as np
from tensorboardX import SummaryWriter
from tqdm import tqdm

from fftnet_jax.errors import StorageError
from fftnet_jax.runs.folder import RunFolder
from fftnet_jax.training.plots import plot_filters, read_picture


class Logger:
    """Collects the numbers of a step under one row; `step` counts finished optimiser steps.

    Of several processes the first writes and speaks, the others' loggers are `quiet`.
    """

    def __init__(self, folder: RunFolder, num_steps: int, start: int, quiet: bool = False):
        self.folder, self.quiet = folder, quiet
        # What an earlier process wrote beyond `start` is written again.
        # The suffix keeps two starts within a second apart.
        suffix = f".{start}"
        self._failure = None
        self._old_hook, threading.excepthook = threading.excepthook, self._note_failure
        self.board = SummaryWriter(
            str(folder / "tensorboard"),
            purge_step=start + 1,
            write_to_disk=not quiet,
            filename_suffix=suffix,
            max_queue=10_000,  # its default of 10 would block for ever once its thread has died
        )
        # Without a terminal, a line now and then is enough.
        interval = 0.2 if sys.stderr.isatty() else 10.0
        self.bar = tqdm(
            total=num_steps,
            initial=start,
            unit="step",
            mininterval=interval,
            maxinterval=interval * 2,
            disable=quiet or start >= num_steps,
        )
        self._time, self._step, self._paused, self._rate = time.monotonic(), start, 0.0, 0.0

    def progress(self, step: int, loss: float) -> None:
        speed = f", {self._rate:,.0f} tokens/s" if self._rate else ""
        self.bar.set_postfix_str(f"loss {loss:.3f}{speed}", refresh=False)
        self.bar.update(step - self.bar.n)

    def speed(self, step: int, tokens_per_step: int) -> float:
        """Tokens per second of training since the last call, pauses left out."""
        seconds = time.monotonic() - self._time - self._paused
        tokens = (step - self._step) * tokens_per_step
        self._time, self._step, self._paused = time.monotonic(), step, 0.0
        self._rate = tokens / max(seconds, 1e-9)
        return self._rate

    def pause(self):
        """Context whose time does not count as training (evaluation, checkpoints)."""
        return _Pause(self)

    def write(self, row: dict) -> None:
        """One line of metrics.jsonl, and a scalar each in TensorBoard."""
        if self._failure:
            raise StorageError(f"TensorBoard's files can't be written in {self.folder.path}: {self._failure}")
        if self.quiet:
            return
        self.folder.add_metrics(row)
        for name, value in row.items():
            if name != "step" and value is not None:
                self.board.add_scalar(name, value, row["step"])

    def say(self, text: str) -> None:
        """A line on standard error that leaves the bar whole."""
        if not self.quiet:
            self.bar.write(text, file=sys.stderr)

    def text(self, name: str, text: str, step: int) -> None:
        self.board.add_text(name, "    " + text.replace("\n", "\n    "), step)  # indented: Markdown shows it as it is

    def histograms(self, kind: str, tree, step: int) -> None:
        for path, leaf in jax.tree_util.tree_leaves_with_path(jax.device_get(tree)):
            values = np.asarray(leaf, np.float32).ravel()
            if np.isfinite(values).all():
                self.board.add_histogram(
                    f"{kind}/{jax.tree_util.keystr(path, simple=True, separator='/')}", values, step
                )

    def filters(self, responses: list, step: int) -> None:
        """The picture filters.png, in the folder and in TensorBoard."""
        if responses and not self.quiet:
            plot_filters(responses, self.folder / "filters.png")
            self.board.add_image("filters", read_picture(self.folder / "filters.png"), step, dataformats="HWC")

    def close(self) -> None:
        self.bar.close()
        with contextlib.suppress(OSError):  # a full disk was reported before
            self.board.close()
        threading.excepthook = self._old_hook

    def _note_failure(self, arguments) -> None:
        """TensorBoard writes in a thread of its own, whose errors nobody would see but as a traceback."""
        if isinstance(arguments.exc_value, OSError):
            self._failure = arguments.exc_value.strerror
        else:
            self._old_hook(arguments)


class _Pause:
    def __init__(self, logger: Logger):
        self.logger = logger

    def __enter__(self):
        self.start = time.monotonic()

    def __exit__(self, *exception):
        self.logger._paused += time.monotonic() - self.start
