"""What the model has to show at each validation, as a text in TensorBoard."""

from fftnet_jax.training.board import Board
from fftnet_jax.training.callbacks.base import Callback, Report
from fftnet_jax.training.run import Run


class Samples(Callback):
    def __init__(self, board: Board):
        self.board = board

    def report(self, run: Run, done: Report) -> None:
        if done.validation:
            setup, params = run.setup, run.whole(run.state.params)
            c = setup.config
            self.board.text(
                "sample", setup.task.sample(setup.model, params, setup.dataset, c.sample, c.seed), done.step
            )
