"""The training run: steps, and around them whatever its callbacks do."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import jax

from fftnet_jax.config import Config
from fftnet_jax.errors import Interrupted
from fftnet_jax.parallel.hosts import Vote, first_decides
from fftnet_jax.runs.checkpoints import Checkpoints
from fftnet_jax.runs.folder import RunFolder
from fftnet_jax.training.callbacks import Callback, Report, due, standard_callbacks
from fftnet_jax.training.ending import finish
from fftnet_jax.training.failures import lost_hosts, storage_errors
from fftnet_jax.training.interrupt import Interrupt
from fftnet_jax.training.run import Run
from fftnet_jax.training.setup import set_up
from fftnet_jax.training.start import claim, other_params


def train(
    config: Config, workdir: str | Path, accept_changes: bool = False, callbacks: Sequence[Callback] = ()
) -> dict:
    """Trains, or resumes, the run in `workdir` to its last step; returns the figures on the test split.

    Args:
      accept_changes: a run begun with another configuration goes on with this one; see `RunFolder.claim`.
      callbacks: called after those of every run, see `standard_callbacks`.

    Raises:
      ConfigError: a setting that can't work, before anything is written; or `workdir` is another live run's.
      Interrupted: Ctrl-C or SIGTERM, after saving.
      Diverged: `training.max_skipped` updates skipped in a row; what reproduces it is in `workdir`/diverged.
      StorageError: the disk is full, or the folder can't be written any more; the checkpoints are intact.
      HostLost: another process of the run is gone; the checkpoints are intact.
    """
    setup, folder = set_up(config), RunFolder(workdir)
    # Read before the folder is claimed, so that a wrong one leaves nothing behind; a resumed run needs it no more.
    initial = other_params(setup.config) if config.training.init_from and not folder.has_checkpoint() else None
    folder.make()
    with contextlib.ExitStack() as stack:
        stack.enter_context(storage_errors(folder))
        same_data = first_decides(lambda: claim(setup, folder, accept_changes, stack))
        checkpoints = stack.enter_context(contextlib.closing(Checkpoints(folder / "checkpoints")))
        stack.enter_context(lost_hosts(checkpoints))
        with Interrupt() as interrupt:
            run = stack.enter_context(contextlib.closing(Run(setup, folder, checkpoints, initial, same_data)))
            callbacks = [stack.enter_context(contextlib.closing(c)) for c in (*standard_callbacks(run), *callbacks)]
            fit(run, callbacks, interrupt)
        return finish(run, callbacks)


def fit(run: Run, callbacks: Sequence[Callback], interrupt: Interrupt) -> None:
    """Runs the remaining steps, or as many as `interrupt` allows."""
    t, start = run.setup.config.training, int(run.state.step)
    asked_to_stop = Vote(run.setup.mesh)
    pending = None  # the step before: reported after the next one is under way, so that nothing waits
    for step in range(start + 1, t.num_steps + 1):
        batch = run.next_batch()
        for callback in callbacks:
            callback.before_step(run, step, batch)
        run.state, metrics = run.setup.train_step(run.state, batch, run.setup.trained.arrays)
        interrupt.arm()  # the first step is compiled: from here on there is something to save
        if pending:
            report(run, callbacks, pending)
        pending = Report(step, metrics, batch)
        stop = asked_to_stop(interrupt.requested)  # read once: a signal from here on is for the next step
        last = step == t.num_steps
        evaluate, save = last or due(step, t.eval_every), last or stop or due(step, t.checkpoint_every)
        if evaluate or save:
            report(run, callbacks, pending, evaluate, save)
            pending = None
        if stop and not last:
            run.checkpoints.wait()
            raise Interrupted(f"stopped after step {step}, saved; the same command goes on from there")
    run.checkpoints.wait()


def report(run: Run, callbacks: Sequence[Callback], done: Report, evaluate: bool = False, save: bool = False) -> None:
    """Tells the callbacks of a finished step; evaluates after it if asked."""
    done.metrics = {name: value.item() for name, value in jax.device_get(done.metrics).items()}
    for callback in callbacks:
        callback.after_step(run, done)
    logged = evaluate or due(done.step, run.setup.config.training.log_every)
    if not (logged or save):
        return
    if logged:
        done.tokens_per_second = run.clock.speed(done.step, run.setup.tokens_per_step)
    with run.clock.pause():
        done.validation, done.save = run.validate() if evaluate else None, save
        for callback in callbacks:
            callback.report(run, done)
