"""The training run: data, steps, evaluation, checkpoints and logs around the train step."""

import contextlib
import dataclasses
import math
import sys
from pathlib import Path

import jax
import numpy as np

from fftnet_jax import tokenizers
from fftnet_jax.config import Config
from fftnet_jax.data import Dataset, load_dataset, train_batches
from fftnet_jax.distillation.targets import build_guide
from fftnet_jax.errors import ConfigError, Diverged, HostLost, Interrupted, StorageError
from fftnet_jax.models import build_model
from fftnet_jax.parallel.hosts import INTACT, Vote, first_decides, is_first, is_loss
from fftnet_jax.parallel.mesh import build_mesh, check_divisible, own_rows, place_batch, replicated, whole
from fftnet_jax.runs.checkpoints import Checkpoints, dump_state, read_params
from fftnet_jax.runs.folder import RunFolder, read_metrics, to_json, write_text
from fftnet_jax.runs.lock import Lock
from fftnet_jax.runs.opening import fresh_params, load, resolve_sizes
from fftnet_jax.training.budget import check_fits
from fftnet_jax.training.evaluation import make_evaluate, test_figures
from fftnet_jax.training.interrupt import Interrupt
from fftnet_jax.training.logger import Logger
from fftnet_jax.training.optimizer import build_optimizer, learning_rate_schedule
from fftnet_jax.training.plots import plot_loss
from fftnet_jax.training.samples import check_prompt, sample_text
from fftnet_jax.training.state import TrainState, init_state, parameter_table
from fftnet_jax.training.step import make_gradients, make_train_step


def train(config: Config, workdir: str | Path, accept_changes: bool = False) -> dict:
    """Trains, or resumes, the run in `workdir` to its last step; returns the figures on the test split.

    Args:
      accept_changes: a run begun with another configuration goes on with this one; see `RunFolder.claim`.

    Raises:
      ConfigError: a setting that can't work, before anything is written; or `workdir` is another live run's.
      Interrupted: Ctrl-C or SIGTERM, after saving.
      Diverged: `training.max_skipped` updates skipped in a row; what reproduces it is in `workdir`/diverged.
      StorageError: the disk is full, or the folder can't be written any more; the checkpoints are intact.
      HostLost: another process of the run is gone; the checkpoints are intact.
    """
    dataset = load_dataset(config.data, config.model.family, config.seed)
    guide = build_guide(config, dataset)
    dataset = guide.dataset if guide else dataset
    config = resolve(config, dataset)
    mesh = build_mesh(config.mesh)
    check_fits(config, mesh)
    check_divisible(config, mesh)
    check_prompt(config, dataset)
    folder = RunFolder(workdir)
    # Read before the folder is claimed, so that a wrong one leaves nothing behind; a resumed run needs it no more.
    initial = other_params(config) if config.training.init_from and not folder.has_checkpoint() else None
    folder.make()
    with contextlib.ExitStack() as stack:
        stack.enter_context(storage_errors(folder))

        def claim() -> bool:
            stack.enter_context(Lock(folder.path))
            changed = folder.claim(config, dataset.fingerprint, accept_changes)
            for line in changed:
                say(f"accepted change of {line}")
            if dataset.tokenizer:
                tokenizers.save(dataset.tokenizer, folder.path)
            return folder.keeps_data_order(changed)

        same_data = first_decides(claim)
        checkpoints = stack.enter_context(contextlib.closing(Checkpoints(folder / "checkpoints")))
        stack.enter_context(lost_hosts(checkpoints))
        with Interrupt() as interrupt:
            run = stack.enter_context(
                contextlib.closing(Run(config, dataset, folder, mesh, checkpoints, initial, guide, same_data))
            )
            run.fit(interrupt)
        return run.finish()


@contextlib.contextmanager
def storage_errors(folder: RunFolder):
    """Turns what the system says of a full disk or a lost folder into StorageError."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{folder.path} can't be written: {error.strerror or error}") from error


@contextlib.contextmanager
def lost_hosts(checkpoints: Checkpoints):
    """Turns what JAX says of a lost process into HostLost; nothing waits for that process any more."""
    try:
        yield
    except Exception as error:  # of JAX or Orbax, which have many
        if not is_loss(error):
            raise
        checkpoints.abandon()
        reason = str(error).strip().splitlines()[0][:160]
        raise HostLost(f"another process of this run is gone ({reason}); {INTACT}") from error


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
    """Optimiser steps in one pass over the training windows."""
    return max(1, len(dataset.train) // batch_size)


class Run:
    """One run in progress: what the loop's parts share."""

    def __init__(
        self,
        config: Config,
        dataset: Dataset,
        folder: RunFolder,
        mesh,
        checkpoints: Checkpoints,
        initial,
        guide=None,
        same_data: bool = True,
    ):
        """`initial` holds parameters to start from instead of fresh ones, or is None; `guide` knows the teacher.

        Without `same_data` a resumed run reads its data from the beginning.
        """
        c, t = config, config.training
        self.config, self.dataset, self.folder, self.mesh, self.checkpoints = config, dataset, folder, mesh, checkpoints
        self.model = build_model(c.model)
        self.schedule = learning_rate_schedule(t, t.num_steps, steps_per_epoch(dataset, c.data.batch_size))
        optimizer = build_optimizer(t, self.schedule)
        step = make_train_step(self.model, optimizer, c.seed, t.accumulation, guide, t.max_spike, mesh)
        self.teacher = None
        if guide:  # which lets go of what it read, so that there is one copy
            self.teacher = guide.arrays = replicated(guide.arrays, mesh)
        self.evaluate = make_evaluate(self.model, t.eval_batch_size or c.data.batch_size, mesh)
        self.gradients = jax.jit(make_gradients(self.model, c.seed, t.accumulation, guide, mesh))
        self.iterator = train_batches(dataset.train, c.data.batch_size, c.seed, own_rows(mesh, c.data.batch_size))
        fresh = init_state(self.model, optimizer, c.seed, mesh)
        places = jax.tree.map(lambda leaf: leaf.sharding, fresh)
        self.train_step = jax.jit(step, donate_argnums=0, out_shardings=(places, None))
        self.state, self.best = self._start(fresh, initial, same_data)
        self.tokens_per_step = c.data.batch_size * c.data.length
        self.logger = Logger(folder, t.num_steps, int(self.state.step), quiet=not is_first())

    def fit(self, interrupt: Interrupt) -> None:
        """Runs the remaining steps, or as many as `interrupt` allows."""
        t, start = self.config.training, int(self.state.step)
        asked_to_stop = Vote(self.mesh)
        pending = None  # metrics of the step before: read after the next one is under way, so that nothing waits
        for step in range(start + 1, t.num_steps + 1):
            batch = place_batch(next(self.iterator), self.mesh, self.config.data.batch_size)
            if _due(step, t.histogram_every):
                self._log_histograms(batch, step)
            self.state, metrics = self.train_step(self.state, batch, self.teacher)
            interrupt.arm()  # the first step is compiled
            if pending:
                self._log_step(*pending)
            pending = (step, metrics, batch)
            stop = asked_to_stop(interrupt.requested)  # read once: a signal from here on is for the next step
            last = step == t.num_steps
            evaluate, save = last or _due(step, t.eval_every), last or stop or _due(step, t.checkpoint_every)
            if evaluate or save:
                self._log_step(*pending, evaluate=evaluate, save=save)
                pending = None
            if stop and not last:
                self.checkpoints.wait()
                raise Interrupted(f"stopped after step {step}, saved; the same command goes on from there")
        self.checkpoints.wait()

    def finish(self) -> dict:
        """Test figures of the best parameters, the loss plot and a sample, printed."""
        params, step = read_params(self.folder / "checkpoints", self.state.params, "best")
        figures = test_figures(self.evaluate(params, self.dataset.test), (self.dataset.characters or {}).get("test"))
        split = "validation" if self.dataset.test_is_validation else "test"
        figures = {**figures, "split": split, "step": step}
        sample = sample_text(self.config, self.dataset, self.model, whole(params, self.mesh), "test")
        if not is_first():
            return figures
        write_text(self.folder / "test_metrics.json", to_json(figures, indent=2) + "\n")
        self._plot()
        self.logger.close()
        best = f"; best validation loss {self.best:.4f}" if math.isfinite(self.best) else ""
        say(f"{split} loss {figures['loss']:.4f}, accuracy {figures['accuracy']:.3f}, parameters of step {step}{best}")
        say(f"everything is in {self.folder.path}/")
        print(sample, flush=True)
        return figures

    def close(self) -> None:
        self.logger.close()
        self.iterator.close()

    def _start(self, state: TrainState, initial: dict | None, same_data: bool) -> tuple[TrainState, float]:
        """The state to go on from: this run's latest checkpoint, another run's parameters, or the fresh one."""
        t = self.config.training
        say("parameters\n" + parameter_table(state.params))
        found = self.checkpoints.restore(state, self.iterator if same_data else None)
        if found is None:
            self._cut_metrics(0)
            if initial:
                params = jax.tree.map(lambda a, b: jax.device_put(np.asarray(a), b.sharding), initial, state.params)
                state = state.replace(params=params)
                say(f"starting from the parameters of {t.init_from}")
            return state, math.inf
        state, meta = found
        step = int(state.step)
        self._cut_metrics(step)
        if step < t.num_steps:
            say(f"resuming {self.folder.path} after step {step} of {t.num_steps}")
        else:
            say(f"{self.folder.path} is finished, all {t.num_steps} steps; here are its figures again")
        return state, meta["best"] if meta["best"] is not None else math.inf

    def _cut_metrics(self, step: int) -> None:
        if is_first():
            self.folder.keep_metrics_until(step)

    def _log_step(self, step: int, metrics: dict, batch: dict, evaluate: bool = False, save: bool = False) -> None:
        """Reports one finished step; evaluates and saves after it if asked."""
        metrics = {name: value.item() for name, value in jax.device_get(metrics).items()}
        self.logger.progress(step, metrics["loss"])
        if metrics["skipped_in_a_row"] >= self.config.training.max_skipped:
            raise Diverged(self._dump(step, metrics, batch))
        if not (evaluate or _due(step, self.config.training.log_every)):
            return self._save(None) if save else None
        row = {
            "step": step,
            **{f"train/{name}": metrics[name] for name in ("loss", "cross_entropy", "kl") if name in metrics},
            "learning_rate": float(self.schedule(step - 1)),
            "grad_norm": metrics["grad_norm"],
            "skipped": metrics["skipped"],
            "tokens_per_second": self.logger.speed(step, self.tokens_per_step),
        }
        with self.logger.pause():
            val = self._evaluate(step, row) if evaluate else None
            self.logger.write(row)
            if save or (val is not None and val <= self.best):
                self._save(val)

    def _evaluate(self, step: int, row: dict) -> float:
        val = self.evaluate(self.state.params, self.dataset.validation)
        row.update({"val/loss": val["loss"], "val/accuracy": val["accuracy"]})
        self.best = min(self.best, val["loss"]) if math.isfinite(val["loss"]) else self.best
        self.logger.say(
            f"step {step}: training loss {row['train/loss']:.4f}, validation loss {val['loss']:.4f}, "
            f"accuracy {val['accuracy']:.3f}, {row['tokens_per_second']:,.0f} tokens/s"
        )
        params = whole(self.state.params, self.mesh)
        responses = self.model.apply({"params": params}, method="frequency_responses")
        self.logger.filters(jax.device_get(responses), step)
        self.logger.text("sample", sample_text(self.config, self.dataset, self.model, params), step)
        if is_first():
            self._plot(row)
        return val["loss"]

    def _save(self, val_loss: float | None) -> None:
        best = self.best if math.isfinite(self.best) else None
        self.checkpoints.save(self.state, self.iterator, {"best": best}, val_loss)

    def _plot(self, row: dict | None = None) -> None:
        file = self.folder / "metrics.jsonl"
        rows = (read_metrics(file) if file.exists() else []) + ([row] if row else [])
        plot_loss(rows, self.folder / "loss.png", self.folder.path.name)

    def _log_histograms(self, batch: dict, step: int) -> None:
        with self.logger.pause():
            grads, _ = self.gradients(self.state.params, batch, self.state.step, self.teacher)
            self.logger.histograms("parameters", whole(self.state.params, self.mesh), step)
            self.logger.histograms("gradients", whole(grads, self.mesh), step)

    def _dump(self, step: int, metrics: dict, batch: dict) -> str:
        """Leaves what reproduces the last skipped update in `diverged/`; returns the diagnosis in a line."""
        bad = [
            jax.tree_util.keystr(path, simple=True, separator="/")
            for path, leaf in jax.tree_util.tree_leaves_with_path(self.state.params)
            if not jax.numpy.isfinite(leaf).all()
        ]
        report = {"step": step, "seed": self.config.seed, **metrics}
        place = dump_state(self.folder / "diverged", self.state, whole(batch, self.mesh), report)
        return (
            f"{metrics['skipped_in_a_row']} updates in a row skipped up to step {step}: loss {metrics['loss']}, "
            f"running mean {float(self.state.mean_loss):.4f}, gradient norm {metrics['grad_norm']}, "
            f"learning rate {float(self.schedule(step - 1)):.2e}, non-finite parameters: {', '.join(bad) or 'none'}; "
            f"lower training.learning_rate or training.clip_norm, the checkpoints before are intact; "
            f"batch and state are in {place}"
        )


def other_params(config: Config) -> dict:
    """The best parameters of the run that `training.init_from` names; ConfigError unless the shapes agree."""
    workdir = config.training.init_from
    try:
        theirs = load(workdir).params
    except ConfigError as error:
        raise ConfigError(f"training.init_from: {error}") from error
    ours = jax.eval_shape(lambda: fresh_params(build_model(config.model), 0))
    if jax.tree.map(jax.numpy.shape, theirs) != jax.tree.map(jax.numpy.shape, ours):
        raise ConfigError(f"training.init_from must be a run with the same model sizes and vocabulary, got {workdir}")
    return theirs


def say(text: str) -> None:
    """A line for the person who watches; standard output is kept for the sample."""
    if is_first():
        print(text, file=sys.stderr, flush=True)


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
