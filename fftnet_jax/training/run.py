"""A run in progress: what the loop moves on, and callbacks read."""

import math

from fftnet_jax.parallel.mesh import place_batch, whole
from fftnet_jax.runs.checkpoints import Checkpoints
from fftnet_jax.runs.folder import RunFolder
from fftnet_jax.training.clock import Clock
from fftnet_jax.training.setup import Setup
from fftnet_jax.training.start import first_state


class Run:
    """Attributes: `state`, after the last step that was begun, and `best`, the lowest validation loss so far."""

    def __init__(
        self,
        setup: Setup,
        folder: RunFolder,
        checkpoints: Checkpoints,
        initial: dict | None = None,
        same_data: bool = True,
    ):
        """Restores the latest checkpoint, where there is one.

        Args:
          initial: parameters to start from instead of fresh ones.
          same_data: go on in the data where the checkpoint was; else they begin anew.
        """
        self.setup, self.folder, self.checkpoints = setup, folder, checkpoints
        self.iterator = setup.batches()
        self.state, self.best = first_state(setup, folder, checkpoints, self.iterator if same_data else None, initial)
        self.clock = Clock(int(self.state.step))

    def next_batch(self) -> dict:
        return place_batch(next(self.iterator), self.setup.mesh, self.setup.config.data.batch_size)

    def validate(self) -> dict[str, float]:
        """The task's metrics of the validation split; a lower loss than any before becomes the best."""
        metrics = self.setup.task.metrics(self.setup.evaluate(self.state.params, self.setup.dataset.validation))
        if math.isfinite(metrics["loss"]):
            self.best = min(self.best, metrics["loss"])
        return metrics

    def whole(self, tree):
        """The arrays of `tree`, such as `state.params`, whole on one device; every process must ask for them."""
        return whole(tree, self.setup.mesh)

    def close(self) -> None:
        self.iterator.close()
