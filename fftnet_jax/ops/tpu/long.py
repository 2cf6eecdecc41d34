"""Long convolution in blocks, by products: no FFT and no complex number.

Within a block of T tokens each channel's filter is a Toeplitz matrix. What a block owes to those before comes from the
modes' state ahead of it: every block's own part at once, then one product over the blocks for each mode, in place of a
loop. Phases are taken afresh from positions, as in `ops.modes`, so only the damping adds up.
"""

import jax
import jax.numpy as jnp

from fftnet_jax.ops.long import empty_state, long_convolution, of_one_token
from fftnet_jax.ops.modes import Modes, advance_state, angles, damped_waves
from fftnet_jax.ops.precision import EXACT

BLOCK = 128  # tokens: the side of a TPU's matrix unit
BLOCKS = 64  # whose states one product takes; more go in turns


@long_convolution.implements("gpu")
def convolve(u_BND, modes: Modes, skip_D, state_BMD=None, start=0, final_state=True, size=BLOCK, together=BLOCKS):
    """`long_convolution` in blocks of `size` tokens, the states of `together` blocks at once."""
    if u_BND.shape[1] == 1 and state_BMD is not None:
        return of_one_token("tpu", u_BND, modes, skip_D, state_BMD, start)
    batch, length, width = u_BND.shape
    size = min(size, length)
    blocks = -(-length // size)
    turns = -(-blocks // together)
    together = -(-blocks // turns)
    u_BND = u_BND.astype(jnp.float32)
    padded_BND = jnp.pad(u_BND, ((0, 0), (0, turns * together * size - length), (0, 0)))
    u_BKTD = padded_BND.reshape(batch, turns * together, size, width)
    y_BKTD = _product("dnt,bktd->bknd", _toeplitz(modes.taps(size, skip_D)), u_BKTD)
    carried = blocks > 1 or state_BMD is not None
    state_BMD = empty_state(u_BND, modes) if state_BMD is None else state_BMD
    if carried:
        y_BKTD += _from_before(u_BKTD, modes, state_BMD, start, together)
    y_BND = y_BKTD.reshape(batch, -1, width)[:, :length]
    if not final_state:
        return y_BND, None
    return y_BND, advance_state(state_BMD, u_BND, modes.decay_M, modes.frequency_M, start)


def _product(equation, a, b):
    return jnp.einsum(equation, a, b, precision=EXACT)


def _toeplitz(taps_TD):
    """(D, T, T): the matrix of each channel's filter. A product with zeros and ones: a TPU gathers slowly."""
    place_T = jnp.arange(len(taps_TD))
    is_lag_TNT = place_T[:, None, None] == (place_T[:, None] - place_T[None])[None]
    return _product("td,tnm->dnm", taps_TD, is_lag_TNT.astype(jnp.float32))


def _from_before(u_BKTD, modes, state_BMD, start, together):
    """What each block's output owes to the blocks before it."""
    batch, blocks, size, width = u_BKTD.shape
    decay_M, frequency_M, mix_MD = modes
    place_T = jnp.arange(size)
    into_TM = damped_waves(decay_M, frequency_M, place_T[::-1], place_T)
    turn_KM = angles(jnp.asarray(start, jnp.float32) + size * jnp.arange(blocks, dtype=jnp.float32), frequency_M)
    turn = jnp.cos(turn_KM)[None, :, :, None], jnp.sin(turn_KM)[None, :, :, None]
    C, S = jnp.split(_product("tm,bktd->bkmd", into_TM, u_BKTD), 2, axis=2)
    added = jnp.stack([C * turn[0] - S * turn[1], S * turn[0] + C * turn[1]], axis=2)
    ahead = _states(added, state_BMD.reshape(batch, 2, -1, width), size * decay_M, together)
    C, S = ahead[:, :, 0], ahead[:, :, 1]
    C, S = C * turn[0] + S * turn[1], S * turn[0] - C * turn[1]
    a, b = jnp.split(mix_MD[None, None], 2, axis=2)
    mixed_BKMD = jnp.concatenate([a * C - b * S, a * S + b * C], axis=2)
    out_TM = damped_waves(decay_M, frequency_M, place_T + 1, place_T)
    return _product("tm,bkmd->bktd", out_TM, mixed_BKMD)


def _states(added_BKPMD, state_BPMD, decay_M, together):
    """The state ahead of each block, cosines and sines P, from what each adds; each loses exp(-decay) of it."""
    batch, blocks, *rest = added_BKPMD.shape
    place_K = jnp.arange(together, dtype=jnp.float32)
    age_KK1 = (place_K[:, None] - 1 - place_K[None])[..., None]
    kept_KKM = jnp.where(age_KK1 >= 0, jnp.exp(-jnp.maximum(age_KK1, 0) * decay_M[None, None]), 0.0)
    since_KM = jnp.exp(-place_K[:, None] * decay_M[None])
    lost_M = jnp.expm1(-together * decay_M)[None, None, :, None]  # exp would round a slow mode's decay away
    till_KM = since_KM[::-1]

    def turn(state_BPMD, added_BKPMD):
        ahead = _product("kjm,bjpmd->bkpmd", kept_KKM, added_BKPMD)
        ahead += since_KM[None, :, None, :, None] * state_BPMD[:, None]
        after = state_BPMD + lost_M * state_BPMD + _product("km,bkpmd->bpmd", till_KM, added_BKPMD)
        return after, ahead

    if blocks == together:
        return turn(state_BPMD, added_BKPMD)[1]
    parts = jnp.moveaxis(added_BKPMD.reshape(batch, -1, together, *rest), 1, 0)
    _, ahead = jax.lax.scan(turn, state_BPMD, parts)
    return jnp.moveaxis(ahead, 0, 1).reshape(added_BKPMD.shape)
