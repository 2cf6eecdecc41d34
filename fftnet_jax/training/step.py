"""The train step: a pure function of (state, batch)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from fftnet_jax.models import Encoder
from fftnet_jax.parallel.mesh import Devices
from fftnet_jax.tasks.base import Task
from fftnet_jax.tasks.tokens import TokenTask
from fftnet_jax.training.state import TrainState

MEMORY = 0.98  # of the running mean of the loss: about 50 steps


def make_train_step(
    model: Encoder,
    optimizer: optax.GradientTransformation,
    seed: int,
    accumulation: int = 1,
    task: Task | None = None,
    max_spike: float = 0.0,
    mesh: Mesh | None = None,
) -> Callable[..., tuple[TrainState, dict]]:
    """(state, batch, the task's arrays) → (state, metrics), to be jitted by the caller.

    The loss is the mean over what counts in the batch, whatever the micro-batches hold of it. The metrics are the
    task's `averages`, the gradient's norm, and how many updates were skipped, in all and in a row.

    An update is left out and counted when its loss or gradient is not finite, or its loss more than `max_spike` (nats,
    0 for no limit) above the running mean. With a mesh the state is placed by `state_sharding`, the batch by
    `place_batch`.

    Args:
      task: whose loss is followed; None for tokens', see `TokenTask`.
      accumulation: micro-batches, into which the batch is cut.
    """
    task = task or TokenTask()
    gradients = make_gradients(model, seed, accumulation, task, mesh)

    def train_step(state: TrainState, batch: dict, arrays=None) -> tuple[TrainState, dict]:
        grads, sums = gradients(state.params, batch, state.step, arrays)
        loss, grad_norm = sums["loss"] / sums["count"], optax.tree.norm(grads)
        sane = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
        if max_spike:
            sane &= ~(loss > state.mean_loss + max_spike)  # also before the first update, where the mean is NaN

        def update():
            updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
            return optax.apply_updates(state.params, updates), opt_state

        params, opt_state = jax.lax.cond(sane, update, lambda: (state.params, state.opt_state))
        state = _counted(state, sane, loss).replace(params=params, opt_state=opt_state)
        metrics = {name: sums[name] / sums["count"] for name in task.averages}
        metrics |= {"grad_norm": grad_norm}
        metrics |= {"skipped": state.skipped, "skipped_in_a_row": state.skipped_in_a_row}
        return state, metrics

    return train_step


def _counted(state: TrainState, sane: jax.Array, loss: jax.Array) -> TrainState:
    """The state after a step whose update was made, or not, but for parameters and optimiser."""
    missed = 1 - sane.astype(jnp.int32)
    mean = jnp.where(jnp.isnan(state.mean_loss), loss, MEMORY * state.mean_loss + (1 - MEMORY) * loss)
    return state.replace(
        step=state.step + 1,
        skipped=state.skipped + missed,
        skipped_in_a_row=(state.skipped_in_a_row + 1) * missed,
        mean_loss=jnp.where(sane, mean, state.mean_loss),
    )


def make_gradients(
    model: Encoder, seed: int, accumulation: int = 1, task: Task | None = None, mesh: Mesh | None = None
) -> Callable:
    """(params, batch, step, the task's arrays) → (gradient of the mean loss over what counts, the task's sums)."""

    task = task or TokenTask()

    def loss_sum(params, batch, key, arrays):
        options = {} if arrays is None else {"arrays": arrays}
        sums = task.loss(model, params, batch, deterministic=False, rngs={"dropout": key}, **options)
        return sums["loss"], sums

    def gradients(params, batch, step, arrays=None):
        devices = Devices(mesh, params, by_block=model.config.remat)
        differentiate = jax.value_and_grad(devices.with_whole(loss_sum), has_aux=True)

        def add_up(params, batch, step, arrays):
            key = devices.own_key(jax.random.fold_in(jax.random.key(seed), step))

            def one(part, index):
                (_, sums), grads = differentiate(params, part, jax.random.fold_in(key, index), arrays)
                return grads, sums

            grads, sums = _accumulate(one, batch, accumulation)
            return devices.total_gradients(grads), devices.total(sums)

        grads, sums = devices.run(add_up, params, batch, step, arrays, has_tree=True)
        count = jnp.maximum(sums["count"], 1.0)
        return jax.tree.map(lambda g: g / count, grads), sums

    return gradients


def _accumulate(one: Callable, batch: dict, accumulation: int):
    """The sum of `one(micro-batch, its index)` over the micro-batches."""
    if accumulation == 1:
        return one(batch, 0)
    # Every micro-batch takes rows from all over, so that a batch split over devices stays split.
    micro = jax.tree.map(lambda x: x.reshape(-1, accumulation, *x.shape[1:]).swapaxes(0, 1), batch)
    shapes = jax.eval_shape(one, jax.tree.map(lambda x: x[0], micro), 0)
    start = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def add(total, inputs):
        index, part = inputs
        return jax.tree.map(jnp.add, total, one(part, index)), None

    return jax.lax.scan(add, start, (jnp.arange(accumulation), micro))[0]
