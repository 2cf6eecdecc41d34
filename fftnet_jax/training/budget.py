"""What a run needs at least, and what there is: compared before anything is allocated.

From below, so that a run that fits is never refused: what a step keeps for its backward pass is more.
"""

import math

import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from fftnet_jax.config import Config
from fftnet_jax.models.sizes import weigh
from fftnet_jax.parallel.mesh import ROWS, TOKENS
from fftnet_jax.runs.memory import PROGRAM, Need, check_memory
from fftnet_jax.tasks.sums import LARGE_VOCABULARY
from fftnet_jax.training.optimizer import build_optimizer
from fftnet_jax.training.state import state_shapes

TOKEN = 12  # bytes of a batch: input, target and weight


def check_fits(config: Config, mesh: Mesh) -> None:
    """Raises ConfigError where parameters, optimiser, or one step or evaluation can't fit, in one line with the fields.

    `config` is a resolved one; its sizes may be absurd.
    """
    devices = list(mesh.local_devices)
    what = "parameters, optimiser and one step"
    check_memory(config, lambda config: need(config, mesh), devices, what)


def need(config: Config, mesh: Mesh) -> Need:
    """Bytes that parameters, optimiser and one step or evaluation take at least."""
    c, t = config.model, config.training
    optimizer = build_optimizer(t, optax.constant_schedule(t.learning_rate))

    def held(model):
        state = state_shapes(model, optimizer, config.seed, mesh)
        return {"state": state, "gradients": state.params}

    def parameters(model):
        return state_shapes(model, optax.identity(), config.seed, mesh).params

    shares = math.prod(mesh.shape[axis] for axis in (*ROWS, TOKENS))
    eval_rows = t.eval_batch_size or config.data.batch_size
    train_tokens, eval_tokens = (rows * config.data.length for rows in (config.data.batch_size, eval_rows))
    logits = 4 * c.vocab_size if c.vocab_size < LARGE_VOCABULARY else 0
    stream = c.width * jnp.dtype(c.dtype).itemsize
    # A block's input, which its norm, or the first product after it, needs again; a norm-free Fourier layer is linear.
    kept = c.num_layers if c.block_norm != "none" or c.ffn_width else 0
    held_bytes = weigh(c, held)
    train = held_bytes + train_tokens // (shares * t.accumulation) * (stream * kept + logits)
    evaluate = held_bytes - weigh(c, parameters) + eval_tokens // shares * max(stream, logits)
    processes = max(1, mesh.size // len(mesh.local_devices))
    host = TOKEN * max(train_tokens, eval_tokens) // processes + PROGRAM * c.num_layers
    return Need(max(train, evaluate), host)
