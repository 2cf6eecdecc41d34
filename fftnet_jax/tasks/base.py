"""What a task is, and the registry: a new one is a file in this folder whose class registers itself.

A task is where data come from (`load`), what is learnt from a batch (`loss`), what is said of a split (`metrics`) and
what a model in training has to show (`sample`). Training and evaluation know nothing else of it. A batch is a dict of
arrays whose first axis is rows; rows of zeros fill up a split's last batch, and must count for nothing in `loss`.
"""

from collections.abc import Callable

import jax

from fftnet_jax.config import DataConfig, SampleConfig
from fftnet_jax.config.data import SOURCES
from fftnet_jax.data.splits import Dataset
from fftnet_jax.models import Encoder

_TASKS: dict[str, type["Task"]] = {}


class Task:
    """Base of the tasks.

    Attributes:
      averages: the sums that each row of the metrics file has, over `count`, as `train/NAME`.
      arrays: what `loss` needs beside parameters and batch, such as a teacher's parameters; None for nothing.
    """

    averages: tuple[str, ...] = ("loss",)
    arrays = None

    @staticmethod
    def check(data: DataConfig, family: str) -> None:
        """Raises ConfigError for settings, or a `model.family`, that this task can't take."""

    def for_family(self, family: str) -> "Task":
        """What this task is for a `model.family`: itself, or another one on the same data."""
        return self

    def load(self, data: DataConfig, seed: int = 0) -> Dataset:
        """The three splits; `seed` is that of what is drawn at random.

        Raises:
          ConfigError: they can't be read, or are too small.
        """
        raise NotImplementedError

    def loss(self, model: Encoder, params: dict, batch: dict, **options) -> dict[str, jax.Array]:
        """Sums over a batch, float32 scalars: `loss`, whose gradient is followed, `count`, and whatever else.

        Training and evaluation divide by the `count` of the whole batch, or split, however it was cut in pieces.

        Args:
          options: of `model.apply`, such as `deterministic`; and `arrays`, where this task has some.
        """
        raise NotImplementedError

    def metrics(self, sums: dict[str, float]) -> dict[str, float]:
        """From the sums over a split: `loss` and whatever else validation writes, as `val/NAME`, and prints."""
        return {"loss": sums["loss"] / sums["count"]}

    def figures(self, sums: dict[str, float], characters: int | None) -> dict[str, float | None]:
        """What `test_metrics.json` says of the sums over the test split, which has so many characters, if any."""
        return self.metrics(sums)

    def sample(
        self, model: Encoder, params: dict, dataset: Dataset, how: SampleConfig, seed: int, split: str = "validation"
    ) -> str:
        """What the model makes of something in a split, for a person to read."""
        return ""


def register(*names: str) -> Callable[[type[Task]], type[Task]]:
    """Class decorator: `data.source=NAME` is this task."""

    def add(task: type[Task]) -> type[Task]:
        for name in names:
            _TASKS[name], SOURCES[name] = task, task.check
        return task

    return add


def task_for(data: DataConfig, family: str = "decoder") -> Task:
    """The task that a configuration means: a text file is a language to model, whatever `data.source` says.

    Raises:
      ConfigError: the task can't take these settings.
    """
    task = _TASKS[data.task]
    task.check(data, family)
    return task().for_family(family)


def load_dataset(data: DataConfig, family: str = "decoder", seed: int = 0) -> Dataset:
    """The splits of the task that a configuration means; see `task_for` and `Task.load`."""
    return task_for(data, family).load(data, seed)
