"""What the forward and the backward kernel of the long convolution share, with gates and without.

A kernel works on tiles of `ROWS` tokens and `LANES` channels, tile after tile along the sequence. Within a tile, blocks
of `BLOCK` tokens: what a block owes to its own tokens are sums over lags, on vectors; what it owes to those before are
two small products, into the modes' state and out of it. The state counts its phases from the start of its tile.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from fftnet_jax.ops.modes import Modes, damped_waves
from fftnet_jax.ops.precision import EXACT

LANES = 128
ROWS = 128  # tokens of a tile, whose blocks are written out too
BLOCK = 16  # tokens: the rows of a bfloat16 tile; more compile longer, as all sums over lags are written out
HALO = 16  # tokens before a tile that its short filters may see; rows of a bfloat16 tile
VMEM = 96 * 2**20  # bytes of it that a kernel may ask for; chips have 128 MiB, but v5p 95


class Constants(NamedTuple):
    """What the kernels read besides tokens, J blocks in a tile.

    Attributes:
      taps_KE: of the short filters; (1, D) and not read without gates.
      h_TD: the long filter within a block, its skip included.
      into_JTM, out_JTM: damped waves into the state at the block's end, and out of that at its start, 2M.
      lost_M1: exp(-δ BLOCK) - 1. turn_2M1: cos and sin of a tile's phase. mix_2MD: a and b.
    """

    taps_KE: jax.Array
    h_TD: jax.Array
    into_JTM: jax.Array
    out_JTM: jax.Array
    lost_M1: jax.Array
    turn_2M1: jax.Array
    mix_2MD: jax.Array


def constants(taps_KE: jax.Array, modes: Modes, skip_D: jax.Array, rows: int) -> Constants:
    """Those of tiles of `rows` tokens; modes that are silent fill up M."""
    silent = whole_modes(modes) // 2 - len(modes.decay_M)
    decay_M, frequency_M = (jnp.pad(x_M, (0, silent)) for x_M in modes[:2])
    mix_2MD = jnp.pad(modes.mix_MD.reshape(2, -1, len(skip_D)), ((0, 0), (0, silent), (0, 0)))
    place_N = jnp.arange(rows)
    into_NM = damped_waves(decay_M, frequency_M, BLOCK - 1 - place_N % BLOCK, place_N)
    out_NM = damped_waves(decay_M, frequency_M, place_N % BLOCK + 1, place_N)
    lost_M = jnp.expm1(-BLOCK * decay_M)  # exp would round a slow mode's decay away
    into_JTM, out_JTM = (x_NM.reshape(-1, BLOCK, x_NM.shape[1]) for x_NM in (into_NM, out_NM))
    turn_2M1 = jnp.stack([jnp.cos(rows * frequency_M), jnp.sin(rows * frequency_M)])[:, :, None]
    lost_M1 = jnp.concatenate([lost_M, lost_M])[:, None]
    taps_KE, h_TD = taps_KE.astype(jnp.float32), modes.taps(BLOCK, skip_D)
    return Constants(taps_KE, h_TD, into_JTM, out_JTM, lost_M1, turn_2M1, mix_2MD)


def whole_modes(modes: Modes) -> int:
    """2M, filled up to whole tiles of numbers for cosines and for sines."""
    return 2 * (len(modes.decay_M) + -len(modes.decay_M) % 16)


class Specs:
    """How arrays are cut for a grid of (rows of the batch, chunks of tokens, tiles of channels).

    Args:
      order: from the place of a chunk in time to the chunk.
    """

    def __init__(self, z_BNE, constants: Constants, rows: int, chunk: int, order):
        batch, length, channels = z_BNE.shape
        width, modes, chunks = constants.h_TD.shape[1], len(constants.lost_M1), length // chunk
        self.sizes = batch, length, width, modes
        self.parts = channels // width
        self.grid = batch, chunks, width // LANES
        ahead = chunk // HALO
        self.z = pl.BlockSpec((1, chunk, channels), lambda b, c, d: (b, order(c), 0))
        self.halo = pl.BlockSpec((1, HALO, channels), lambda b, c, d: (b, jnp.maximum(order(c) * ahead - 1, 0), 0))
        self.tokens = pl.BlockSpec((1, chunk, width), lambda b, c, d: (b, order(c), 0))
        self.states = pl.BlockSpec((1, chunk // rows, modes, width), lambda b, c, d: (b, order(c), 0, 0))
        self._size = z_BNE.dtype.itemsize

    def whole(self, array) -> pl.BlockSpec:
        """All of a small array, in every step."""
        return pl.BlockSpec(array.shape, lambda b, c, d: (0,) * array.ndim)

    def cost(self, rows: int, passes: int, sums: int) -> pl.CostEstimate:
        """Of `passes` over the tokens: one forward, three for gradients.

        Args:
          sums: multiplications and additions of vectors for a number of the output, in a pass.
        """
        batch, length, width, modes = self.sizes
        numbers, arrays = batch * length * width, 1 + self.parts * (1 if passes == 1 else 2)
        products = 4 * modes * (6 if self._size == 4 else 1)  # exact ones take six
        moved = (arrays * numbers + numbers // rows * modes) * self._size
        work = passes * numbers * (products + sums)
        return pl.CostEstimate(flops=work, bytes_accessed=moved, transcendentals=0)


def halves(waves_JXY: jax.Array, dtype) -> jax.Array:
    """Waves as a kernel takes them: in bfloat16 what that keeps of them, and beside it the rest.

    Products then see waves of 16 bits, at no cost: the matrix unit sums 128 products at a time, and there are fewer.
    """
    if dtype == jnp.float32:
        return waves_JXY
    high = waves_JXY.astype(dtype)
    return jnp.concatenate([high, (waves_JXY - high.astype(jnp.float32)).astype(dtype)], axis=2)


def wave_product(halves, data):
    """Of `halves` of waves and a matrix."""
    data = data.astype(halves.dtype)
    return product(halves, data if halves.shape[1] == len(data) else jnp.concatenate([data, data]))


def product(a, b, contract=((1,), (0,))):
    """Of two matrices: sums in float32, operands as they are."""
    precision = EXACT if a.dtype == jnp.float32 else None
    return jax.lax.dot_general(a, b, (contract, ((), ())), precision=precision, preferred_element_type=jnp.float32)


def product_nt(a, b):
    """a · b^T."""
    return product(a, b, ((1,), (1,)))


def third(index: int, width: int, lane: int) -> pl.Slice:
    """The channels of a tile within q, k or v."""
    return pl.ds(pl.multiple_of(index * width + lane, LANES), LANES)


def load(z_ref, halo_ref, z_scratch, tile, lane, is_first) -> None:
    """The tile of q, k and v, or of the input alone, in float32, behind the tokens before it."""
    parts, rows = len(z_scratch), z_scratch.shape[1] - HALO
    width, start = z_ref.shape[2] // parts, pl.multiple_of(tile * rows, HALO)
    for index in range(parts):
        lanes = third(index, width, lane)
        inside = z_ref[0, pl.ds(pl.multiple_of(jnp.maximum(start - HALO, 0), HALO), HALO), lanes]
        before = jnp.where(tile > 0, inside, halo_ref[0, :, lanes]).astype(jnp.float32)
        z_scratch[index, :HALO] = jnp.where(is_first, 0.0, before)
        z_scratch[index, HALO:] = z_ref[0, pl.ds(start, rows), lanes].astype(jnp.float32)


def filtered(z_scratch, taps_ref, lane) -> list:
    """q, k and v of a tile after their short filters, or ones, the input and ones where there are no gates."""
    parts, rows = len(z_scratch), z_scratch.shape[1] - HALO
    if parts == 1:
        return [1.0, z_scratch[0, HALO:], 1.0]
    width, found = taps_ref.shape[1] // parts, []
    for index in range(parts):
        taps = taps_ref[:, third(index, width, lane)]
        found.append(sum(taps[lag : lag + 1] * z_scratch[index, HALO - lag :][:rows] for lag in range(len(taps))))
    return found


def within_blocks(u_scratch, h) -> jax.Array:
    """The long filter within blocks, as sums over lags; `u_scratch` has BLOCK rows ahead of the tile."""
    rows, total = u_scratch.shape[0] - BLOCK, 0.0
    for lag in range(BLOCK):
        shifted = u_scratch[pl.ds(BLOCK - lag, rows)].reshape(-1, BLOCK, LANES)
        total = total + jnp.where(from_row(lag), h[lag : lag + 1], 0.0)[None] * shifted
    return total.reshape(rows, LANES)


def from_row(first: int) -> jax.Array:
    """Whether a row of a block is at or after `first`."""
    return jax.lax.broadcasted_iota(jnp.int32, (BLOCK, LANES), 0) >= first


def mixed(state, mix) -> jax.Array:
    """A state, cosines above sines, times each mode's share in the channels."""
    (C, S), (a, b) = jnp.split(state, 2), mix
    return jnp.concatenate([a * C - b * S, a * S + b * C])


def turned(state, turn) -> jax.Array:
    """A state whose phases count from a tile's end instead of its start."""
    (C, S), (cos, sin) = jnp.split(state, 2), turn
    return jnp.concatenate([cos * C + sin * S, cos * S - sin * C])
