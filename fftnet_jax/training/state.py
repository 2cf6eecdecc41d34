"""What a run must remember to go on: step, parameters, optimiser, and the count of skipped updates."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.sharding import Mesh

from fftnet_jax.parallel.mesh import state_sharding


@struct.dataclass
class TrainState:
    step: jax.Array  # batches seen, int32
    params: dict
    opt_state: optax.OptState
    skipped: jax.Array  # updates left out, in all
    skipped_in_a_row: jax.Array
    mean_loss: jax.Array  # running, of the updates that were made; NaN before the first


def init_state(model: nn.Module, optimizer: optax.GradientTransformation, seed: int, mesh: Mesh) -> TrainState:
    """The state of step 0, born where the mesh wants it."""
    places = jax.tree.map(lambda leaf: leaf.sharding, state_shapes(model, optimizer, seed, mesh))
    return jax.jit(_initial(model, optimizer), out_shardings=places)(jax.random.key(seed))


def state_shapes(model: nn.Module, optimizer: optax.GradientTransformation, seed: int, mesh: Mesh) -> TrainState:
    """The shapes, dtypes and places of `init_state`'s arrays; nothing is computed."""
    shapes = jax.eval_shape(_initial(model, optimizer), jax.random.key(seed))
    places = state_sharding(shapes, mesh)
    return jax.tree.map(lambda s, place: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=place), shapes, places)


def _initial(model, optimizer):
    def init(key):
        # Parameters don't depend on the sequence length, so the shortest sequence will do.
        params = model.init(key, jnp.zeros((1, 1), jnp.int32))["params"]
        zero = jnp.zeros((), jnp.int32)
        return TrainState(zero, params, optimizer.init(params), zero, zero, jnp.full((), jnp.nan, jnp.float32))

    return init


def parameter_table(params: dict) -> str:
    """One line per part of the model with its number of parameters, and the total."""
    counts: dict[str, int] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = "/".join(key.key for key in path[:2])
        counts[name] = counts.get(name, 0) + leaf.size
    counts["total"] = sum(counts.values())
    width = max(map(len, counts))
    return "\n".join(f"  {name:<{width}}  {count:>12,}" for name, count in counts.items())
