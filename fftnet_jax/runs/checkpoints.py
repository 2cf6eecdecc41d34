"""Orbax checkpoints: the latest and the best, written in the background, resumed exactly."""

import dataclasses
import json
import math
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from fftnet_jax.errors import ConfigError, StorageError
from fftnet_jax.parallel.hosts import is_first, is_loss, wait_for_all
from fftnet_jax.runs.folder import to_json
from fftnet_jax.runs.seal import damage, is_sealed, seal


class Checkpoints:
    """The `checkpoints/` folder of a run: one subfolder per step, with the items params, rest, data and meta.

    A state is a dataclass of arrays and trees of them, among them `step` and `params`; the rest is what else it has.

    Every finished step is sealed (see `seal`). Opening the folder sets aside, in `damaged/` beside it, what no seal
    vouches for: steps cut short by a kill, and damaged ones.
    """

    def __init__(self, folder: Path):
        self.folder = folder.resolve()
        if is_first():
            for step, what in damaged_steps(self.folder).items():
                place = set_aside(self.folder / step)
                _warn(f"checkpoint {self.folder / step} is passed over: {what}; it is in {place} now")
        wait_for_all("checkpoints")
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
            cleanup_tmp_directories=True,  # what a kill left half written
        )
        self.manager = ocp.CheckpointManager(self.folder, options=options)
        self._background = ThreadPoolExecutor(1, "seal")
        self._abandoned = False
        self._sealing = None  # of the last checkpoint, under way

    def save(self, state, iterator, meta: dict, val_loss: float | None) -> None:
        """Starts writing `state` under its step; `val_loss` only if it was measured at this very step."""
        # Orbax warns about steps without the metric; NaN it would rank as best.
        metrics = {"val/loss": val_loss if val_loss is not None and math.isfinite(val_loss) else math.inf}
        items = ocp.args.Composite(
            params=ocp.args.StandardSave(state.params),
            rest=ocp.args.StandardSave(_rest(state)),
            data=ocp.args.JsonSave(iterator.get_state()),  # of whole batches, so the same in every process
            meta=ocp.args.JsonSave(meta),
        )
        if not self.folder.parent.joinpath("config.json").exists():  # Orbax would make the folder anew
            raise StorageError(f"{self.folder.parent} vanished while the run was writing to it")
        self.wait()
        try:
            self.manager.save(int(state.step), args=items, metrics=metrics)
        except Exception as error:  # stores raise many kinds
            if is_loss(error):
                raise
            raise self._unwritten(error) from error
        self._sealing = self._background.submit(self._seal)

    def restore(self, state, iterator=None) -> tuple | None:
        """The latest state, placed like `state`, with its meta data, or None if there is none; moves `iterator`.

        Raises:
          ConfigError: it is of another kind of state.
        """
        step = self.manager.latest_step()
        if step is None:
            return None
        items = {
            "params": ocp.args.StandardRestore(_abstract(state.params)),
            "rest": ocp.args.StandardRestore(_abstract(_rest(state))),
            "meta": ocp.args.JsonRestore(),
        }
        if iterator:
            items["data"] = ocp.args.JsonRestore()
        found = self._read(step, ocp.args.Composite(**items))
        if iterator:
            iterator.set_state(found["data"])
        return state.replace(params=found["params"], **found["rest"]), found["meta"]

    def wait(self) -> None:
        """Until the last checkpoint is whole on disk; StorageError if it can't be."""
        sealing, self._sealing = self._sealing, None
        try:
            if sealing:
                sealing.result()
        except Exception as error:
            if is_loss(error):
                raise
            raise self._unwritten(error) from error
        wait_for_all("checkpoint")  # the first process seals it

    def abandon(self) -> None:
        """Another process is gone: what is being written will never be whole, and `close` is not to wait for it."""
        self._abandoned = True

    def close(self) -> None:
        self._background.shutdown(wait=not self._abandoned)
        if not self._abandoned:
            self.manager.close()

    def _seal(self) -> None:
        self.manager.wait_until_finished()
        if is_first():
            for folder in step_folders(self.folder):
                if not is_sealed(folder):
                    seal(folder)

    def _unwritten(self, error: Exception) -> StorageError:
        steps = [folder.name for folder in step_folders(self.folder) if is_sealed(folder)]
        intact = f"those of steps {', '.join(steps)} are intact" if steps else "there is none before it"
        return StorageError(f"a checkpoint can't be written in {self.folder} ({_reason(error)}); {intact}")

    def _read(self, step: int, items):
        try:
            return self.manager.restore(step, args=items)
        except Exception as error:  # Orbax and its stores raise many kinds
            raise _unreadable(self.folder / str(step), error) from error


def read_params(folder: Path, params, which: str = "best") -> tuple[dict, int]:
    """Parameters of the best or latest sound step in a `checkpoints/` folder, placed like `params`, and that step.

    Args:
      params: arrays, or their shapes.
      which: "best" (lowest validation loss; the latest where none was measured) or "latest".

    Raises:
      ConfigError: there is no checkpoint, none that is sound, or it does not hold such parameters.
    """
    folder = folder.resolve()
    damaged = damaged_steps(folder)
    for step, what in damaged.items():
        _warn(f"checkpoint {folder / step} is passed over: {what}")
    sound = [path for path in step_folders(folder) if path.name not in damaged]
    if not sound:
        more = f" that is sound (damaged: {', '.join(damaged)})" if damaged else ""
        raise ConfigError(f"no checkpoint{more} in {folder}; train first")
    losses = [_loss_of(path) if which == "best" else math.inf for path in sound]
    best = max(range(len(sound)), key=lambda index: (-losses[index], index))  # of equals the latest
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            return checkpointer.restore(sound[best] / "params", _abstract(params)), int(sound[best].name)
    except Exception as error:
        raise _unreadable(sound[best], error) from error


def dump_state(folder: Path, state, batch: dict, report: dict) -> Path:
    """Leaves a state, a batch and what is to be said of them in `folder`/STEP; returns that folder."""
    place = folder.resolve() / str(report["step"])
    if is_first():
        shutil.rmtree(place, ignore_errors=True)  # of an earlier try
        place.mkdir(parents=True)
        np.savez(place / "batch.npz", **{name: np.asarray(array) for name, array in batch.items()})
        (place / "report.json").write_text(to_json(report, indent=2) + "\n")
    wait_for_all("dump")
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(place / "state", {"params": state.params, **_rest(state)})
    return place


def step_folders(folder: Path) -> list[Path]:
    """The finished steps in `folder`, in their order."""
    return sorted((path for path in folder.glob("*") if path.name.isdigit()), key=lambda path: int(path.name))


def damaged_steps(folder: Path) -> dict[str, str]:
    """What is wrong, by step, with those that are not as they were sealed."""
    found = {path.name: damage(path) for path in step_folders(folder)}
    return {step: what for step, what in found.items() if what}


def set_aside(folder: Path) -> Path:
    """Moves a step out of the way, nothing of it lost: to `damaged/` beside the checkpoints."""
    place = folder.parent.parent / "damaged" / folder.name
    place.parent.mkdir(exist_ok=True)
    number = 1
    while place.exists():
        number += 1
        place = place.with_name(f"{folder.name}-{number}")
    shutil.move(folder, place)
    return place


def _loss_of(folder: Path) -> float:
    try:
        return float(json.loads((folder / "metrics" / "metrics").read_bytes())["val/loss"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise _unreadable(folder, error) from error


def _unreadable(folder: Path, error: Exception) -> ConfigError:
    return ConfigError(
        f"checkpoint {folder} is whole but can't be read as this run's ({_reason(error)}); "
        f"was it written with other settings or by another version?"
    )


def _reason(error: Exception) -> str:
    line = (str(error).strip().splitlines() or [""])[0][:200]
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr, flush=True)


def _val_loss(metrics) -> float:
    return metrics["val/loss"]


def _rest(state) -> dict:
    return {field.name: getattr(state, field.name) for field in dataclasses.fields(state) if field.name != "params"}


def _abstract(tree):
    return jax.tree.map(ocp.utils.to_shape_dtype_struct, tree)
