"""A run that skips one update after the other ends, and leaves what reproduces the last one."""

import jax

from fftnet_jax.errors import Diverged
from fftnet_jax.runs.checkpoints import dump_state
from fftnet_jax.training.callbacks.base import Callback, Report
from fftnet_jax.training.run import Run


class Divergence(Callback):
    """Raises Diverged after `training.max_skipped` skipped updates in a row."""

    def after_step(self, run: Run, done: Report) -> None:
        if done.metrics["skipped_in_a_row"] >= run.setup.config.training.max_skipped:
            raise Diverged(_dump(run, done))


def _dump(run: Run, done: Report) -> str:
    """Leaves batch and state in `diverged/`; returns the diagnosis in a line."""
    metrics = done.metrics
    bad = [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, leaf in jax.tree_util.tree_leaves_with_path(run.state.params)
        if not jax.numpy.isfinite(leaf).all()
    ]
    report = {"step": done.step, "seed": run.setup.config.seed, **metrics}
    place = dump_state(run.folder / "diverged", run.state, run.whole(done.batch), report)
    return (
        f"{metrics['skipped_in_a_row']} updates in a row skipped up to step {done.step}: loss {metrics['loss']}, "
        f"running mean {float(run.state.mean_loss):.4f}, gradient norm {metrics['grad_norm']}, "
        f"learning rate {float(run.setup.schedule(done.step - 1)):.2e}, "
        f"non-finite parameters: {', '.join(bad) or 'none'}; "
        f"lower training.learning_rate or training.clip_norm, the checkpoints before are intact; "
        f"batch and state are in {place}"
    )
