"""Checkpoints: where they are due, and wherever the validation loss is the best so far."""

import math

from fftnet_jax.training.callbacks.base import Callback, Report
from fftnet_jax.training.run import Run


class Saving(Callback):
    def report(self, run: Run, done: Report) -> None:
        loss = done.validation["loss"] if done.validation else None
        if done.save or (loss is not None and loss <= run.best):
            meta = {"best": run.best if math.isfinite(run.best) else None}
            run.checkpoints.save(run.state, run.iterator, meta, loss)
