"""A task's sums over all of a split."""

import math
from collections.abc import Callable

import jax
from jax.sharding import Mesh

from fftnet_jax.data import Source, eval_batches
from fftnet_jax.models import Encoder
from fftnet_jax.parallel.mesh import Devices, own_rows, place_batch
from fftnet_jax.tasks.base import Task
from fftnet_jax.tasks.tokens import TokenTask


def make_evaluate(
    model: Encoder, batch_size: int, mesh: Mesh, task: Task | None = None
) -> Callable[[dict, Source], dict[str, float]]:
    """(params, source) → the task's sums over every row of the source, once; without a task, a `TokenTask`'s."""
    task = task or TokenTask()

    def device_sums(params, batch):
        devices = Devices(mesh, params)
        sums = devices.with_whole(lambda params, batch: task.loss(model, params, batch))
        return devices.run(lambda params, batch: devices.total(sums(params, batch)), params, batch, has_tree=False)

    sums_of = jax.jit(device_sums)

    def evaluate(params: dict, source: Source) -> dict[str, float]:
        parts, rows = [], own_rows(mesh, batch_size)
        for batch in eval_batches(source, batch_size, rows):
            parts.append(sums_of(params, place_batch(batch, mesh, batch_size)))
            if len(parts) > 1:  # one batch stays in flight
                parts[-2] = jax.device_get(parts[-2])
        parts = jax.device_get(parts)
        # Added on the host in float64: float32 would lose digits over millions of tokens.
        return {name: math.fsum(float(part[name]) for part in parts) for name in parts[0]}

    return evaluate
