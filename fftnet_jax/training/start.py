"""How a run begins: the folder becomes its own, and its parameters come from wherever they are to come from."""

import contextlib
import math

import jax
import numpy as np

from fftnet_jax import tokenizers
from fftnet_jax.config import Config
from fftnet_jax.errors import ConfigError
from fftnet_jax.models import build_model
from fftnet_jax.parallel.hosts import is_first
from fftnet_jax.runs.checkpoints import Checkpoints
from fftnet_jax.runs.folder import RunFolder
from fftnet_jax.runs.lock import Lock
from fftnet_jax.runs.opening import fresh_params, load
from fftnet_jax.training.setup import Setup
from fftnet_jax.training.state import TrainState, parameter_table
from fftnet_jax.training.terminal import say


def claim(setup: Setup, folder: RunFolder, accept_changes: bool, stack: contextlib.ExitStack) -> bool:
    """Makes the folder this run's as long as `stack` is open; whether the data's order is that of the run in it.

    Raises:
      ConfigError: it belongs to a live run, or to one of another configuration.
    """
    stack.enter_context(Lock(folder.path))
    changed = folder.claim(setup.config, setup.dataset.fingerprint, accept_changes)
    for line in changed:
        say(f"accepted change of {line}")
    if setup.dataset.tokenizer:
        tokenizers.save(setup.dataset.tokenizer, folder.path)
    return folder.keeps_data_order(changed)


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


def first_state(
    setup: Setup, folder: RunFolder, checkpoints: Checkpoints, iterator, initial: dict | None
) -> tuple[TrainState, float]:
    """The state to go on from, and the best validation loss so far.

    It is this run's latest checkpoint; else fresh, with the parameters `initial` where there are some.

    Args:
      iterator: of batches, moved to where the checkpoint was; None to let it begin anew.
    """
    t, state = setup.config.training, setup.initial_state()
    say("parameters\n" + parameter_table(state.params))
    found = checkpoints.restore(state, iterator)
    step = int(found[0].step) if found else 0
    if is_first():
        folder.keep_metrics_until(step)
    if found is None:
        if initial:
            params = jax.tree.map(lambda a, b: jax.device_put(np.asarray(a), b.sharding), initial, state.params)
            state = state.replace(params=params)
            say(f"starting from the parameters of {t.init_from}")
        return state, math.inf
    if step < t.num_steps:
        say(f"resuming {folder.path} after step {step} of {t.num_steps}")
    else:
        say(f"{folder.path} is finished, all {t.num_steps} steps; here are its figures again")
    state, meta = found
    return state, meta["best"] if meta["best"] is not None else math.inf
