"""The gated convolution on a TPU: one kernel forward, one backward, in place of a dozen passes over memory."""

from functools import partial

import jax
import jax.numpy as jnp

from fftnet_jax.ops.gated import gated_convolution, short_filters
from fftnet_jax.ops.kernel import kernel
from fftnet_jax.ops.modes import Modes
from fftnet_jax.ops.select import on_tpu
from fftnet_jax.ops.tpu import long
from fftnet_jax.ops.tpu.gated_backward import backward
from fftnet_jax.ops.tpu.gated_forward import forward
from fftnet_jax.ops.tpu.gated_tiles import BLOCK, HALO, LANES, ROWS, constants
from fftnet_jax.ops.short import short_convolution

CHUNK = 512  # tokens that are fetched at a time


@gated_convolution.implements("tpu")
def convolve(z_BNE, taps_KE, modes: Modes, skip_D, interpret=False):
    """`gated_convolution` by kernels where their tiles fit; `interpret` runs them on any device."""
    length, width = z_BNE.shape[1], len(skip_D)
    if width % LANES or len(taps_KE) > HALO or z_BNE.dtype not in (jnp.float32, jnp.bfloat16):
        return _plain(z_BNE, taps_KE, modes, skip_D)
    rows = min(ROWS, -(-length // BLOCK) * BLOCK)
    tiles = -(-length // rows)
    chunk = rows * -(-tiles // -(-tiles * rows // CHUNK))
    padded_BNE = jnp.pad(z_BNE, ((0, 0), (0, -length % chunk), (0, 0)))
    g_BND = _by_kernels(rows, chunk, interpret)(padded_BNE, taps_KE, modes, skip_D)
    return g_BND[:, :length]


def _plain(z_BNE, taps_KE, modes, skip_D):
    q, k, v = short_filters(z_BNE, taps_KE, short_convolution.reference)
    y_BND, _ = long.convolve(k * v, modes, skip_D, final_state=False)
    return q * y_BND.astype(z_BNE.dtype)


def _by_kernels(rows, chunk, interpret):
    def small(z_BNE, taps_KE, modes, skip_D):
        return constants(taps_KE, modes, skip_D, rows, z_BNE.dtype)

    def run(z_BNE, *parameters):
        return forward(z_BNE, small(z_BNE, *parameters), rows, chunk, interpret)

    def otherwise(z_BNE, *parameters):
        batch, length, _ = z_BNE.shape
        modes, width = 2 * (len(parameters[1].decay_M) + -len(parameters[1].decay_M) % 16), len(parameters[2])
        return _plain(z_BNE, *parameters), jnp.zeros((batch, length // rows, modes, width), z_BNE.dtype)

    def gradient(arrays, states_BKMD, dg_BND):
        z_BNE, *parameters = arrays
        made, pull = jax.vjp(lambda *parameters: small(z_BNE, *parameters), *parameters)
        dz_BNE, found = backward(z_BNE, made, states_BKMD, dg_BND, rows, chunk, interpret)
        return (dz_BNE, *pull(found))

    def gradient_otherwise(arrays, states_BKMD, dg_BND):
        return jax.vjp(_plain, *arrays)[1](dg_BND)

    if interpret:
        return kernel(_plain, run, gradient)
    return kernel(_plain, partial(on_tpu, run, otherwise), partial(on_tpu, gradient, gradient_otherwise))
