"""Histograms of parameters and gradients, every `training.histogram_every` steps."""

from fftnet_jax.training.board import Board
from fftnet_jax.training.callbacks.base import Callback, due
from fftnet_jax.training.run import Run


class Histograms(Callback):
    def __init__(self, board: Board):
        self.board = board

    def before_step(self, run: Run, step: int, batch: dict) -> None:
        if not due(step, run.setup.config.training.histogram_every):
            return
        with run.clock.pause():
            grads, _ = run.setup.gradients(run.state.params, batch, run.state.step, run.setup.trained.arrays)
            self.board.histograms("parameters", run.whole(run.state.params), step)
            self.board.histograms("gradients", run.whole(grads), step)
