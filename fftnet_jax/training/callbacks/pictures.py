"""The pictures loss.png and filters.png, anew at each validation."""

import jax

from fftnet_jax.parallel.hosts import is_first
from fftnet_jax.runs.folder import read_metrics
from fftnet_jax.training.board import Board
from fftnet_jax.training.callbacks.base import Callback, Report
from fftnet_jax.training.plots import plot_filters, plot_loss, read_picture
from fftnet_jax.training.run import Run


class Pictures(Callback):
    def __init__(self, board: Board):
        self.board = board

    def report(self, run: Run, done: Report) -> None:
        if not done.validation:
            return
        params = run.whole(run.state.params)
        responses = run.setup.model.apply({"params": params}, method="frequency_responses")
        if is_first():
            self._filters(run, jax.device_get(responses), done.step)
            _loss(run)

    def after_run(self, run: Run, figures: dict) -> None:
        if is_first():
            _loss(run)

    def _filters(self, run: Run, responses: list, step: int) -> None:
        if responses:
            plot_filters(responses, run.folder / "filters.png")
            self.board.image("filters", read_picture(run.folder / "filters.png"), step)


def _loss(run: Run) -> None:
    file = run.folder / "metrics.jsonl"
    plot_loss(read_metrics(file) if file.exists() else [], run.folder / "loss.png", run.folder.path.name)
