"""Orbax checkpoints: the latest and the best, written in the background, resumed exactly."""

import math
from pathlib import Path

import grain
import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from fftnet_jax.config import ConfigError
from fftnet_jax.training.state import TrainState


class Checkpoints:
    """The `checkpoints/` folder of a run: one subfolder per step, with the items params, rest, data and meta."""

    def __init__(self, folder: Path, read_only: bool = False):
        policy = preservation_policy.AnyPreservationPolicy(
            [
                preservation_policy.LatestN(2),
                preservation_policy.BestN(
                    get_metric_fn=_val_loss, reverse=True, n=1, keep_checkpoints_without_metrics=False
                ),
            ]
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policy,
            best_fn=_val_loss,
            best_mode="min",
            # Not Orbax's own read_only, which prints a warning.
            create=not read_only,
            save_root_metadata=not read_only,
            cleanup_tmp_directories=not read_only,  # what a kill left half written
        )
        self.manager = ocp.CheckpointManager(folder.resolve(), options=options)

    def save(self, state: TrainState, iterator, meta: dict, val_loss: float | None) -> None:
        """Starts writing `state` under its step; `val_loss` only if it was measured at this very step."""
        # Orbax warns about steps without the metric; NaN it would rank as best.
        metrics = {"val/loss": val_loss if val_loss is not None and math.isfinite(val_loss) else math.inf}
        items = ocp.args.Composite(
            params=ocp.args.StandardSave(state.params),
            rest=ocp.args.StandardSave(_rest(state)),
            data=grain.checkpoint.CheckpointSave(iterator),
            meta=ocp.args.JsonSave(meta),
        )
        self.manager.save(int(state.step), args=items, metrics=metrics)

    def restore(self, state: TrainState, iterator) -> tuple[TrainState, dict] | None:
        """The latest state, placed like `state`, with its meta data, or None if there is none; moves `iterator`.

        Raises:
          ConfigError: it is damaged.
        """
        step = self.manager.latest_step()
        if step is None:
            return None
        items = ocp.args.Composite(
            params=ocp.args.StandardRestore(_abstract(state.params)),
            rest=ocp.args.StandardRestore(_abstract(_rest(state))),
            data=grain.checkpoint.CheckpointRestore(iterator),
            meta=ocp.args.JsonRestore(),
        )
        found = self._read(step, items)
        return state.replace(params=found["params"], **found["rest"]), found["meta"]

    def restore_params(self, params, which: str = "best") -> tuple[dict, int]:
        """Parameters of the best or latest step, placed like `params` (arrays or their shapes), and that step.

        Raises:
          ConfigError: there is no checkpoint, or it is damaged.
        """
        # Without any finite loss all are alike, and the best is the latest.
        step = self.manager.best_step() if which == "best" else self.manager.latest_step()
        if step is None:
            raise ConfigError(f"no checkpoint in {self.manager.directory}; train first")
        args = ocp.args.Composite(params=ocp.args.StandardRestore(_abstract(params)))
        return self._read(step, args)["params"], step

    def wait(self) -> None:
        self.manager.wait_until_finished()

    def close(self) -> None:
        self.manager.close()

    def _read(self, step: int, items):
        try:
            return self.manager.restore(step, args=items)
        except Exception as error:  # Orbax and its stores raise many kinds
            raise ConfigError(
                f"checkpoint {self.manager.directory / str(step)} can't be read ({type(error).__name__}); "
                f"delete that folder to go on from the one before"
            ) from error


def _val_loss(metrics) -> float:
    return metrics["val/loss"]


def _rest(state: TrainState) -> dict:
    return {name: getattr(state, name) for name in ("step", "opt_state", "skipped", "skipped_in_a_row")}


def _abstract(tree):
    return jax.tree.map(ocp.utils.to_shape_dtype_struct, tree)
