"""The end of a run: how good its best parameters are, and what they make of the test split."""

import math
from collections.abc import Sequence

from fftnet_jax.parallel.hosts import is_first
from fftnet_jax.runs.checkpoints import read_params
from fftnet_jax.training.callbacks import Callback
from fftnet_jax.training.run import Run
from fftnet_jax.training.terminal import in_words, say


def finish(run: Run, callbacks: Sequence[Callback]) -> dict:
    """The task's figures on the test split, reported and printed with a sample."""
    setup, dataset = run.setup, run.setup.dataset
    params, step = read_params(run.folder / "checkpoints", run.state.params, "best")
    sums = setup.evaluate(params, dataset.test)
    split = "validation" if dataset.test_is_validation else "test"
    figures = setup.task.figures(sums, (dataset.characters or {}).get("test"))
    figures = {**figures, "split": split, "step": step}
    c = setup.config
    sample = setup.task.sample(setup.model, run.whole(params), dataset, c.sample, c.seed, "test")
    for callback in callbacks:
        callback.after_run(run, figures)
    best = f"; best validation loss {run.best:.4f}" if math.isfinite(run.best) else ""
    say(f"{split} {in_words(setup.task.metrics(sums))}, parameters of step {step}{best}")
    say(f"everything is in {run.folder.path}/")
    if sample and is_first():
        print(sample, flush=True)
    return figures
