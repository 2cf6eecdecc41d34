"""The long convolution as one kernel: the input, or q, k, v with their gates, is read once, the output written once."""

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from fftnet_jax.ops.tpu import long_tiles as tiles
from fftnet_jax.ops.tpu.long_tiles import BLOCK, HALO, LANES, Constants


def forward(z_BNE: jax.Array, constants: Constants, rows: int, chunk: int, interpret: bool = False):
    """The output (B, N, D), and the state ahead of each tile (B, N / rows, 2M, D), both in the dtype of z.

    Args:
      rows: tokens of a tile. chunk: tokens fetched together; a multiple of `rows` that divides N.
    """
    specs = tiles.Specs(z_BNE, constants, rows, chunk, lambda index: index)
    batch, length, width, modes = specs.sizes
    shapes = (batch, length, width), (batch, length // rows, modes, width)
    scratch = (modes, width), (specs.parts, HALO + rows, LANES), (BLOCK + rows, LANES), (rows, LANES)
    into_JMT, out_JTM = constants.into_JTM.swapaxes(1, 2), constants.out_JTM
    waves = (tiles.halves(x_JXY, z_BNE.dtype) for x_JXY in (into_JMT, out_JTM))
    small = constants._replace(**dict(zip(("into_JTM", "out_JTM"), waves, strict=True)))
    return pl.pallas_call(
        kernel,
        grid=specs.grid,
        in_specs=[specs.z, specs.halo, *map(specs.whole, small)],
        out_specs=[specs.tokens, specs.states],
        out_shape=[jax.ShapeDtypeStruct(shape, z_BNE.dtype) for shape in shapes],
        scratch_shapes=[pltpu.VMEM(shape, jnp.float32) for shape in scratch],
        cost_estimate=specs.cost(rows, 1, 2 * BLOCK + 6 * len(constants.taps_KE)),
        compiler_params=pltpu.CompilerParams(vmem_limit_bytes=tiles.VMEM),
        interpret=interpret,
        name="long_convolution",
    )(z_BNE, z_BNE, *small)


def kernel(z_ref, halo_ref, *refs):
    """A chunk of tokens of one row, and `LANES` of its channels; `into_JTM` comes transposed."""
    *constants, y_ref, states_ref, state, z_scratch, u_scratch, y_scratch = refs
    c = Constants(*constants)
    rows, lane = len(y_scratch), pl.multiple_of(pl.program_id(2) * LANES, LANES)
    lanes, is_first_chunk = pl.ds(lane, LANES), pl.program_id(1) == 0
    u_scratch[:BLOCK] = jnp.zeros((BLOCK, LANES), jnp.float32)

    def tile(index, _):
        is_first = is_first_chunk & (index == 0)
        tiles.load(z_ref, halo_ref, z_scratch, index, lane, is_first)
        q, k, v = tiles.filtered(z_scratch, c.taps_KE, lane)
        u_scratch[BLOCK:] = k * v
        y_scratch[...] = tiles.within_blocks(u_scratch, c.h_TD[:, lanes])
        now, mix = jnp.where(is_first, 0.0, state[:, lanes]), (c.mix_2MD[0, :, lanes], c.mix_2MD[1, :, lanes])
        states_ref[0, index, :, lanes] = now.astype(states_ref.dtype)
        for block in range(rows // BLOCK):
            here = pl.ds(block * BLOCK, BLOCK)
            y_scratch[here] += tiles.wave_product(c.out_JTM[block], tiles.mixed(now, mix))
            u = u_scratch[pl.ds(BLOCK + block * BLOCK, BLOCK)]
            now = now + c.lost_M1[...] * now + tiles.wave_product(c.into_JTM[block], u)
        state[:, lanes] = tiles.turned(now, c.turn_2M1[...])
        y_ref[0, pl.ds(pl.multiple_of(index * rows, rows), rows), lanes] = (q * y_scratch[...]).astype(y_ref.dtype)

    jax.lax.fori_loop(0, y_ref.shape[1] // rows, tile, None)
