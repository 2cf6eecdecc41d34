"""TensorBoard's files of a run."""

import contextlib
import threading
from pathlib import Path

import jax
import numpy as np
from tensorboardX import SummaryWriter

from fftnet_jax.errors import StorageError


class Board:
    """`tensorboard/` in a run's folder; `quiet` writes nothing. What an earlier process wrote beyond `start` is hidden.

    Steps count finished optimiser steps.
    """

    def __init__(self, folder: Path, start: int, quiet: bool = False):
        self.folder, self._failure = folder, None
        self._old_hook, threading.excepthook = threading.excepthook, self._note_failure
        self._writer = SummaryWriter(
            str(folder / "tensorboard"),
            purge_step=start + 1,
            write_to_disk=not quiet,
            filename_suffix=f".{start}",  # keeps two starts within a second apart
            max_queue=10_000,  # its default of 10 would block for ever once its thread has died
        )

    def check(self) -> None:
        """Raises StorageError if its files can't be written any more."""
        if self._failure:
            raise StorageError(f"TensorBoard's files can't be written in {self.folder}: {self._failure}")

    def scalars(self, row: dict) -> None:
        """The numbers of a row, which has a `step`."""
        for name, value in row.items():
            if name != "step" and value is not None:
                self._writer.add_scalar(name, value, row["step"])

    def text(self, name: str, text: str, step: int) -> None:
        indented = "    " + text.replace("\n", "\n    ")  # Markdown shows it as it is
        self._writer.add_text(name, indented, step)

    def image(self, name: str, picture: np.ndarray, step: int) -> None:
        """(H, W, 3) bytes."""
        self._writer.add_image(name, picture, step, dataformats="HWC")

    def histograms(self, kind: str, tree, step: int) -> None:
        """One for each array of `tree` that is finite."""
        for path, leaf in jax.tree_util.tree_leaves_with_path(jax.device_get(tree)):
            values = np.asarray(leaf, np.float32).ravel()
            if np.isfinite(values).all():
                name = jax.tree_util.keystr(path, simple=True, separator="/")
                self._writer.add_histogram(f"{kind}/{name}", values, step)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # a full disk was reported before
            self._writer.close()
        threading.excepthook = self._old_hook

    def _note_failure(self, arguments) -> None:
        """TensorBoard writes in a thread of its own, whose errors nobody would see but as a traceback."""
        if isinstance(arguments.exc_value, OSError):
            self._failure = arguments.exc_value.strerror
        else:
            self._old_hook(arguments)
