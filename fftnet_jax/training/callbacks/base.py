"""What a callback is: something that a run does beside training, told of its steps."""

from dataclasses import dataclass

from fftnet_jax.training.run import Run


@dataclass
class Report:
    """A finished step.

    Attributes:
      step: from 1.
      metrics: what the train step said: the task's averages, `grad_norm`, `skipped`, `skipped_in_a_row`.
      batch: on its devices.
      tokens_per_second: since the row before; None where no row of the metrics file is due.
      validation: the task's metrics of the validation split; None where it was not evaluated.
      save: whether a checkpoint is due.
    """

    step: int
    metrics: dict
    batch: dict
    tokens_per_second: float | None = None
    validation: dict[str, float] | None = None
    save: bool = False


class Callback:
    """Base of the callbacks, which do nothing. Every process calls them; what only one should do, `is_first` tells.

    They are called in the order of their list. An exception ends the run; those of `fftnet_jax.errors` in one line.
    """

    def before_step(self, run: Run, step: int, batch: dict) -> None:
        """`run.state` is that of the step before."""

    def after_step(self, run: Run, done: Report) -> None:
        """Every step, when its metrics are here: by then the next one may be under way, and `run.state` its state."""

    def report(self, run: Run, done: Report) -> None:
        """A row is due, or a checkpoint. Where either `validation` or `save` is set, `run.state` is that of the step.

        What is done here is not counted as time of training.
        """

    def after_run(self, run: Run, figures: dict) -> None:
        """All steps are done; `figures` are those of the test split."""

    def close(self) -> None:
        """However the run ended."""


def due(step: int, every: int) -> bool:
    """Whether something that is done every so many steps, 0 for never, is done at this one."""
    return every > 0 and step % every == 0
