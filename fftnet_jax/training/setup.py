"""What a run's loop needs, made from its configuration: nothing is written, and no parameters exist yet."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import jax
import optax
from jax.sharding import Mesh

from fftnet_jax.config import Config
from fftnet_jax.data import Dataset, Source, train_batches
from fftnet_jax.distillation.targets import build_guide
from fftnet_jax.errors import ConfigError
from fftnet_jax.models import Encoder, build_model
from fftnet_jax.parallel.mesh import build_mesh, check_divisible, own_rows, replicated
from fftnet_jax.runs.opening import resolve_sizes
from fftnet_jax.tasks import Task, task_for
from fftnet_jax.training.budget import check_fits
from fftnet_jax.training.evaluation import make_evaluate
from fftnet_jax.training.optimizer import build_optimizer, learning_rate_schedule
from fftnet_jax.training.state import TrainState, init_state, state_shapes
from fftnet_jax.training.step import make_gradients, make_train_step


@dataclass(frozen=True)
class Setup:
    """A run that could begin.

    Attributes:
      config: with everything filled in that follows from the data.
      task: what validation, test and samples are of.
      trained: whose loss is followed: `task`, or that of a teacher's student.
      schedule: step, from 0 → learning rate.
      train_step: (state, batch, `trained.arrays`) → (state, metrics), jitted; the state's memory is used again.
      gradients: (params, batch, step, `trained.arrays`) → (gradients, sums), jitted.
      evaluate: (params, source) → the task's sums.
    """

    config: Config
    task: Task
    trained: Task
    dataset: Dataset
    mesh: Mesh
    model: Encoder
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    train_step: Callable[..., tuple[TrainState, dict]]
    gradients: Callable[..., tuple[dict, dict]]
    evaluate: Callable[[dict, Source], dict[str, float]]

    @property
    def tokens_per_step(self) -> int:
        return self.config.data.batch_size * self.config.data.length

    def initial_state(self) -> TrainState:
        """The state of step 0, on its devices."""
        return init_state(self.model, self.optimizer, self.config.seed, self.mesh)

    def batches(self):
        """This process's rows of the training batches, without end; see `train_batches`."""
        size = self.config.data.batch_size
        return train_batches(self.dataset.train, size, self.config.seed, own_rows(self.mesh, size))


def set_up(config: Config) -> Setup:
    """Reads the data, and the teacher where there is one, and builds what trains on them.

    Raises:
      ConfigError: a setting that can't work.
    """
    task = task_for(config.data, config.model.family)
    dataset = task.load(config.data, config.seed)
    trained = build_guide(config, dataset) or task
    dataset = getattr(trained, "dataset", dataset)
    config = resolve(config, dataset)
    mesh = build_mesh(config.mesh)
    check_fits(config, mesh)
    check_divisible(config, mesh)
    check_prompt(config, dataset)
    if trained.arrays is not None:
        trained.arrays = replicated(trained.arrays, mesh)  # and lets go of what it read, so that there is one copy
    return assemble(config, task, trained, dataset, mesh)


def assemble(config: Config, task: Task, trained: Task, dataset: Dataset, mesh: Mesh) -> Setup:
    """The set-up for data at hand; `config` is complete, see `resolve`."""
    c, t, model = config, config.training, build_model(config.model)
    schedule = learning_rate_schedule(t, t.num_steps, steps_per_epoch(dataset, c.data.batch_size))
    optimizer = build_optimizer(t, schedule)
    places = jax.tree.map(lambda leaf: leaf.sharding, state_shapes(model, optimizer, c.seed, mesh))
    step = make_train_step(model, optimizer, c.seed, t.accumulation, trained, t.max_spike, mesh)
    return Setup(
        config=config,
        task=task,
        trained=trained,
        dataset=dataset,
        mesh=mesh,
        model=model,
        optimizer=optimizer,
        schedule=schedule,
        train_step=jax.jit(step, donate_argnums=0, out_shardings=(places, None)),
        gradients=jax.jit(make_gradients(model, c.seed, t.accumulation, trained, mesh)),
        evaluate=make_evaluate(model, t.eval_batch_size or c.data.batch_size, mesh, task),
    )


def resolve(config: Config, dataset: Dataset) -> Config:
    """The configuration with everything filled in that depends on the data: vocabulary, lengths, steps."""
    config, training = resolve_sizes(config, dataset.vocab_size), config.training
    per_epoch = steps_per_epoch(dataset, config.data.batch_size)
    if training.num_epochs:
        training = dataclasses.replace(training, num_steps=max(1, round(training.num_epochs * per_epoch)))
    if training.eval_every_epochs:
        training = dataclasses.replace(training, eval_every=max(1, round(training.eval_every_epochs * per_epoch)))
    return dataclasses.replace(config, training=training)


def steps_per_epoch(dataset: Dataset, batch_size: int) -> int:
    """Optimiser steps in one pass over the training rows."""
    return max(1, len(dataset.train) // batch_size)


def check_prompt(config: Config, dataset: Dataset) -> None:
    """Raises ConfigError for a prompt that the tokenizer can't read, before hours of training rather than after."""
    if config.sample.prompt and dataset.tokenizer:
        try:
            dataset.tokenizer.encode(config.sample.prompt)
        except ConfigError as error:
            raise ConfigError(f"sample.prompt: {error}") from error
