"""What a run needs at least and what there is, compared before anything is allocated."""

import math

from jax.sharding import Mesh

from fftnet_jax.config import Config
from fftnet_jax.errors import ConfigError
from fftnet_jax.models.sizes import weigh
from fftnet_jax.parallel.memory import available, host_memory
from fftnet_jax.parallel.mesh import ROWS, TOKENS
from fftnet_jax.tasks.sums import LARGE_VOCABULARY
from fftnet_jax.training.optimizer import build_optimizer, learning_rate_schedule
from fftnet_jax.training.state import state_shapes

GIB = 2**30
BATCH_BYTES = 12  # of a token in a batch on the host: its id, its target, its weight


def check_budget(config: Config, mesh: Mesh) -> None:
    """Raises ConfigError where parameters, optimiser and one step can't fit; what is reckoned is less than is used."""
    c, devices = config, list(mesh.devices.flat)
    optimizer = build_optimizer(c.training, learning_rate_schedule(c.training, 1, 1))
    state = weigh(c.model, lambda model: state_shapes(model, optimizer, c.seed, mesh))
    step = state // 3 + activations(c, mesh)  # gradients as large as the parameters, of which the state has three
    have = available(devices)
    if have is not None and state + step > have:
        what = "model.width, model.num_layers and the like"
        if step > 2 * state:
            what = f"data.batch_size ({c.data.batch_size}), data.length ({c.data.length}) or the model's sizes"
        raise ConfigError(
            f"{what} must be small enough for memory: parameters and optimiser take at least {_size(state)}, a step "
            f"{_size(step)} more on each of {len(devices)} device{'s' * (len(devices) > 1)}, which has {_size(have)}"
        )
    batch, host = BATCH_BYTES * c.data.batch_size * c.data.length, host_memory()
    if host is not None and batch > host:
        raise ConfigError(
            f"data.batch_size ({c.data.batch_size}) × data.length ({c.data.length}) must be small enough for the "
            f"host's memory: a batch takes {_size(batch)}, there is {_size(host)}"
        )


def activations(config: Config, mesh: Mesh) -> int:
    """Bytes a device that the backward pass is kept for: the residual stream of each block, and small logits."""
    c, rows = config, math.prod(mesh.shape[axis] for axis in ROWS)
    tokens = c.data.batch_size // c.training.accumulation * c.data.length // (rows * mesh.shape[TOKENS])
    number = 2 if c.model.dtype == "bfloat16" else 4
    logits = c.model.vocab_size if c.model.vocab_size < LARGE_VOCABULARY else 0
    return tokens * (number * c.model.width * c.model.num_layers + 4 * logits)


def _size(count: int) -> str:
    return f"{count / GIB:,.1f} GiB"
