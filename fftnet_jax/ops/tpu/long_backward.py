"""The gradient of the long convolution as one kernel, which goes through the sequence backwards.

What the forward pass made of a tile is made again from the input and the state ahead of it. The adjoint of the modes'
state is carried from tile to tile, as the state is in the forward pass.
"""

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from fftnet_jax.ops.tpu import long_tiles as tiles
from fftnet_jax.ops.tpu.long_tiles import BLOCK, HALO, LANES, Constants


def backward(z_BNE, constants: Constants, states_BKMD, dg_BND, rows: int, chunk: int, interpret: bool = False):
    """Gradients of z and of the constants, from that of the output; `states_BKMD` as the forward pass left them."""
    specs = tiles.Specs(z_BNE, constants, rows, chunk, lambda index: z_BNE.shape[1] // chunk - 1 - index)
    *_, width, modes = specs.sizes
    by_channel = {"lost_M1": (modes, width), "turn_2M1": (2, modes // 2, width)}  # for others to add up
    shapes = {name: by_channel.get(name, leaf.shape) for name, leaf in constants._asdict().items()}
    gradients = Constants(**{name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()})
    parts = specs.parts
    scratch = [(modes, width), (parts, HALO, width), (parts, HALO + rows, LANES), (BLOCK + rows, LANES), (rows, LANES)]
    scratch += [(rows + BLOCK, LANES), (parts, rows, LANES), (rows // BLOCK, modes, LANES), (parts, rows + HALO, LANES)]
    waves = constants.into_JTM, constants.out_JTM
    pairs = [tiles.halves(x, z_BNE.dtype) for x_JTM in waves for x in (x_JTM, x_JTM.swapaxes(1, 2))]
    small = pairs[1], pairs[3], *constants._replace(into_JTM=pairs[0], out_JTM=pairs[2])
    dz_BNE, *found = pl.pallas_call(
        kernel,
        grid=specs.grid,
        in_specs=[specs.z, specs.halo, specs.tokens, specs.states, *map(specs.whole, small)],
        out_specs=[specs.z, *map(specs.whole, gradients)],
        out_shape=[jax.ShapeDtypeStruct(z_BNE.shape, z_BNE.dtype), *gradients],
        scratch_shapes=[pltpu.VMEM(shape, jnp.float32) for shape in scratch],
        cost_estimate=specs.cost(rows, 3, 2 * BLOCK + 6 * len(constants.taps_KE)),
        compiler_params=pltpu.CompilerParams(vmem_limit_bytes=tiles.VMEM),
        interpret=interpret,
        name="long_convolution_gradient",
    )(z_BNE, z_BNE, dg_BND, states_BKMD, *small)
    found = Constants(*found)
    sums = {"lost_M1": found.lost_M1.sum(1, keepdims=True), "turn_2M1": found.turn_2M1.sum(2, keepdims=True)}
    return dz_BNE, found._replace(**sums)


class _Scratch:
    """Memory of a step; `adjoint` and `after`, the first gradients of the tile behind, stay for the next."""

    def __init__(self, adjoint, after, z, u, y, dy, qkv, states, d):
        self.adjoint, self.after, self.z, self.u, self.y = adjoint, after, z, u, y
        self.dy, self.qkv, self.states, self.d = dy, qkv, states, d
        self.rows = len(y)

    def block(self, index):
        return pl.ds(index * BLOCK, BLOCK)

    def u_block(self, index):
        return self.u[pl.ds(BLOCK + index * BLOCK, BLOCK)]


def kernel(z_ref, halo_ref, dg_ref, states_ref, into_JMT, out_JMT, *refs):
    """A chunk of tokens of one row, and `LANES` of its channels."""
    fields = len(Constants._fields)
    c, dz_ref, found = Constants(*refs[:fields]), refs[fields], Constants(*refs[fields + 1 : 2 * fields + 1])
    at = _Scratch(*refs[2 * fields + 1 :])
    gates = len(at.qkv) == 3
    lane = pl.multiple_of(pl.program_id(2) * LANES, LANES)
    lanes, step = pl.ds(lane, LANES), pl.program_id(1)
    is_first_chunk, is_last_chunk = step == pl.num_programs(1) - 1, step == 0
    _clear(found, lane, (pl.program_id(0) == 0) & is_last_chunk)
    at.u[:BLOCK] = jnp.zeros((BLOCK, LANES), jnp.float32)
    at.dy[at.rows :] = jnp.zeros((BLOCK, LANES), jnp.float32)
    tile_count = dz_ref.shape[1] // at.rows

    def tile(turn, _):
        index = tile_count - 1 - turn
        is_first = is_first_chunk & (index == 0)
        is_last = is_last_chunk & (turn == 0)
        here = pl.ds(pl.multiple_of(index * at.rows, at.rows), at.rows)
        tiles.load(z_ref, halo_ref, at.z, index, lane, is_first)
        end = _again(at, c, lane, into_JMT, states_ref[0, index, :, lanes].astype(jnp.float32))
        dg = dg_ref[0, here, lanes].astype(jnp.float32)
        if gates:
            at.d[0, : at.rows] = dg * at.y[...]
        at.dy[: at.rows] = dg * at.qkv[0] if gates else dg
        at.y[...] = _within_blocks(at, c.h_TD[:, lanes], found.h_TD, lanes)  # from here on the gradient of u
        _through_states(at, c, found, lanes, out_JMT, end, is_last)
        if gates:
            at.d[1, : at.rows], at.d[2, : at.rows] = at.y[...] * at.qkv[2], at.y[...] * at.qkv[1]
            _through_filters(at, c, found, lane, is_last, dz_ref, here)
        else:
            dz_ref[0, here, lanes] = at.y[...].astype(dz_ref.dtype)

    jax.lax.fori_loop(0, tile_count, tile, None)


def _clear(found, lane, is_start):
    """Zeros for the sums over all tokens, in the first step of these channels."""
    width = found.h_TD.shape[1]

    @pl.when(is_start)
    def _():
        for ref in (found.h_TD, found.lost_M1, found.turn_2M1, found.mix_2MD):
            part = (..., pl.ds(lane, LANES))
            ref[part] = jnp.zeros((*ref.shape[:-1], LANES), jnp.float32)
        for index in range(found.taps_KE.shape[1] // width):
            found.taps_KE[:, tiles.third(index, width, lane)] = jnp.zeros((len(found.taps_KE), LANES), jnp.float32)

    @pl.when(is_start & (pl.program_id(2) == 0))
    def _():
        for ref in (found.into_JTM, found.out_JTM):
            ref[...] = jnp.zeros(ref.shape, jnp.float32)


def _again(at, c, lane, into_JMT, state):
    """The forward pass of a tile, its output without the gate; gives the state after it."""
    q, k, v = tiles.filtered(at.z, c.taps_KE, lane)
    at.u[BLOCK:] = k * v
    if len(at.qkv) == 3:
        at.qkv[0], at.qkv[1], at.qkv[2] = q, k, v
    lanes = pl.ds(lane, LANES)
    mix = c.mix_2MD[0, :, lanes], c.mix_2MD[1, :, lanes]
    at.y[...] = tiles.within_blocks(at.u, c.h_TD[:, lanes])
    for block in range(at.rows // BLOCK):
        at.states[block] = state
        at.y[at.block(block)] += tiles.wave_product(c.out_JTM[block], tiles.mixed(state, mix))
        state = state + c.lost_M1[...] * state + tiles.wave_product(into_JMT[block], at.u_block(block))
    return state


def _within_blocks(at, h, dh_ref, lanes):
    """The gradient of u through sums over lags, and that of the filter."""
    total = 0.0
    for lag in range(BLOCK):
        shifted = at.dy[pl.ds(lag, at.rows)].reshape(-1, BLOCK, LANES)
        total = total + jnp.where(tiles.from_row(BLOCK - lag), 0.0, h[lag : lag + 1])[None] * shifted
        u = at.u[pl.ds(BLOCK - lag, at.rows)].reshape(-1, BLOCK, LANES)
        met = (at.dy[: at.rows].reshape(-1, BLOCK, LANES) * u).sum(0)
        dh_ref[lag : lag + 1, lanes] += jnp.where(tiles.from_row(lag), met, 0.0).sum(0, keepdims=True)
    return total.reshape(at.rows, LANES)


def _through_states(at, c, found, lanes, out_JMT, end, is_last):
    """Adds to the gradient of u what goes through the modes' states, and to those of the constants."""
    dtype, (a, b), (cos, sin) = out_JMT.dtype, (c.mix_2MD[0, :, lanes], c.mix_2MD[1, :, lanes]), c.turn_2M1[...]
    (C, S), (dC, dS) = jnp.split(end, 2), jnp.split(jnp.where(is_last, 0.0, at.adjoint[:, lanes]), 2)
    found.turn_2M1[0, :, lanes] += dC * C + dS * S
    found.turn_2M1[1, :, lanes] += dC * S - dS * C
    adjoint = jnp.concatenate([cos * dC - sin * dS, sin * dC + cos * dS])
    dlost, da, db = jnp.zeros_like(adjoint), jnp.zeros_like(a), jnp.zeros_like(b)
    for block in reversed(range(at.rows // BLOCK)):
        state, low = at.states[block], adjoint.astype(dtype)
        dy = at.dy[at.block(block)].astype(dtype)
        found.into_JTM[block] += tiles.product_nt(at.u_block(block).astype(dtype), low)
        at.y[at.block(block)] += tiles.wave_product(c.into_JTM[block], low)
        dlost += adjoint * state
        found.out_JTM[block] += tiles.product_nt(dy, tiles.mixed(state, (a, b)).astype(dtype))
        (C, S), (P, Q) = jnp.split(state, 2), jnp.split(tiles.wave_product(out_JMT[block], dy), 2)
        da, db = da + P * C + Q * S, db + Q * C - P * S
        adjoint = adjoint + c.lost_M1[...] * adjoint + jnp.concatenate([a * P + b * Q, a * Q - b * P])
    at.adjoint[:, lanes] = adjoint
    found.lost_M1[:, lanes] += dlost
    found.mix_2MD[0, :, lanes] += da
    found.mix_2MD[1, :, lanes] += db


def _through_filters(at, c, found, lane, is_last, dz_ref, here):
    """The gradients of the projections and of the short filters' taps, from those of q, k and v."""
    width, lanes = dz_ref.shape[2] // 3, pl.ds(lane, LANES)
    for index in range(3):
        part = tiles.third(index, width, lane)
        taps = c.taps_KE[:, part]
        at.d[index, at.rows :] = jnp.where(is_last, 0.0, at.after[index, :, lanes])
        at.after[index, :, lanes] = at.d[index, :HALO]
        dz = sum(taps[lag : lag + 1] * at.d[index, pl.ds(lag, at.rows)] for lag in range(len(taps)))
        dz_ref[0, here, part] = dz.astype(dz_ref.dtype)
        for lag in range(len(taps)):
            met = at.d[index, : at.rows] * at.z[index, pl.ds(HALO - lag, at.rows)]
            found.taps_KE[lag : lag + 1, part] += met.sum(0, keepdims=True)
