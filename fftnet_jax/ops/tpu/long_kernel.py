"""The long convolution on a TPU by kernels: no array but its input and output, and every 128th state, is written.

By the TPU compiler (v5e, jax 0.10.2, bfloat16; kernels at 40% of the roof) the flagship mixer takes 0.63 million cycles
at (8, 1024, 256), forward and backward, and 1.36 by the products of `long`, which remain for widths that don't fit:
`python -m benchmarks.compile --only causal_fftnet`.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from fftnet_jax.ops.kernel import kernel
from fftnet_jax.ops.long import long_convolution, of_one_token
from fftnet_jax.ops.modes import Modes, advance_state, damped_waves, state_output
from fftnet_jax.ops.select import on_tpu
from fftnet_jax.ops.tpu.long import convolve as in_blocks
from fftnet_jax.ops.tpu.long_backward import backward
from fftnet_jax.ops.tpu.long_forward import forward
from fftnet_jax.ops.tpu.long_tiles import BLOCK, HALO, LANES, ROWS, constants, whole_modes

CHUNK = 512  # tokens that are fetched at a time


@long_convolution.implements("tpu")
def convolve(u_BND, modes: Modes, skip_D, state_BMD=None, start=0, final_state=True, interpret=False):
    """`long_convolution`; operands of products are of the dtype of u, sums and states float32."""
    length = u_BND.shape[1]
    if length == 1 and state_BMD is not None:
        return of_one_token("tpu", u_BND, modes, skip_D, state_BMD, start)
    no_taps = jnp.zeros((1, len(skip_D)))
    if not fits(u_BND, no_taps, skip_D):
        return in_blocks(u_BND, modes, skip_D, state_BMD, start, final_state)
    y_BND = by_kernels(_plain, u_BND, no_taps, modes, skip_D, interpret).astype(jnp.float32)
    if state_BMD is not None:
        place_N = jnp.arange(length)
        y_BND += state_output(state_BMD, modes.mix_MD, damped_waves(*modes[:2], place_N + 1, start + place_N))
    if not final_state:
        return y_BND, None
    state_BMD = jnp.zeros((len(u_BND), *modes.mix_MD.shape)) if state_BMD is None else state_BMD
    return y_BND, advance_state(state_BMD, u_BND, *modes[:2], start)


def _plain(u_BND, _, modes, skip_D):
    return in_blocks(u_BND, modes, skip_D, final_state=False)[0].astype(u_BND.dtype)


def fits(z_BNE: jax.Array, taps_KE: jax.Array, skip_D: jax.Array) -> bool:
    """Whether the kernels' tiles fit."""
    return not len(skip_D) % LANES and len(taps_KE) <= HALO and z_BNE.dtype in (jnp.float32, jnp.bfloat16)


def by_kernels(plain: Callable, z_BNE, taps_KE, modes: Modes, skip_D, interpret: bool = False) -> jax.Array:
    """`plain(z, taps, modes, skip)` (B, N, D) by kernels in a program for a TPU.

    Args:
      z_BNE: the input (B, N, D), or q, k and v beside each other for what `taps_KE` and gates make of them.
      interpret: run the kernels on any device, slowly.
    """
    length = z_BNE.shape[1]
    rows = min(ROWS, -(-length // BLOCK) * BLOCK)
    tiles = -(-length // rows)
    chunk = rows * -(-tiles // -(-tiles * rows // CHUNK))

    made = partial(constants, rows=rows)

    def run(z_BNE, *parameters):
        return forward(z_BNE, made(*parameters), rows, chunk, interpret)

    def otherwise(z_BNE, *parameters):
        states = len(z_BNE), z_BNE.shape[1] // rows, whole_modes(modes), len(skip_D)
        return plain(z_BNE, *parameters), jnp.zeros(states, z_BNE.dtype)

    def gradient(arrays, states_BKMD, dy_BND):
        z_BNE, *parameters = arrays
        small, pull = jax.vjp(made, *parameters)
        dz_BNE, found = backward(z_BNE, small, states_BKMD, dy_BND, rows, chunk, interpret)
        return (dz_BNE, *pull(found))

    def gradient_otherwise(arrays, states_BKMD, dy_BND):
        return jax.vjp(plain, *arrays)[1](dy_BND)

    if not interpret:
        run, gradient = partial(on_tpu, run, otherwise), partial(on_tpu, gradient, gradient_otherwise)
    padded_BNE = jnp.pad(z_BNE, ((0, 0), (0, -length % chunk), (0, 0)))
    return kernel(plain, run, gradient)(padded_BNE, taps_KE, modes, skip_D)[:, :length]
