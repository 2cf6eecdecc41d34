"""A run's numbers: a row of metrics.jsonl now and then, the same in TensorBoard, and test_metrics.json."""

from fftnet_jax.parallel.hosts import is_first
from fftnet_jax.runs.folder import to_json, write_text
from fftnet_jax.training.board import Board
from fftnet_jax.training.callbacks.base import Callback, Report
from fftnet_jax.training.run import Run


class Metrics(Callback):
    def __init__(self, board: Board):
        self.board = board

    def report(self, run: Run, done: Report) -> None:
        if done.tokens_per_second is None:
            return
        row = {
            "step": done.step,
            **{f"train/{name}": done.metrics[name] for name in run.setup.trained.averages},
            "learning_rate": float(run.setup.schedule(done.step - 1)),
            "grad_norm": done.metrics["grad_norm"],
            "skipped": done.metrics["skipped"],
            "tokens_per_second": done.tokens_per_second,
            **{f"val/{name}": value for name, value in (done.validation or {}).items()},
        }
        self.board.check()
        if is_first():
            run.folder.add_metrics(row)
            self.board.scalars(row)

    def after_run(self, run: Run, figures: dict) -> None:
        if is_first():
            write_text(run.folder / "test_metrics.json", to_json(figures, indent=2) + "\n")

    def close(self) -> None:
        self.board.close()
