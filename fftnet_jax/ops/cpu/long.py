"""Long convolution in O(N) and matrix products, in pieces that stay in a CPU's caches.

Within blocks of T tokens the filter is a Toeplitz matrix for each channel; from block to block the state of the modes
is carried: its cosines and its sines, a pair of arrays. Channels come first, (C, B, K blocks, T), so that a block's
tokens, or modes, lie side by side. A few channels go at a time, recomputed for the gradient: the memory they touch
stays in the caches.

The transposes of the parts are written out: what JAX derives sums and transposes in ways that XLA's CPU does slowly.
"""

from functools import partial

import jax
import jax.numpy as jnp

from fftnet_jax.ops.cpu.dense import in_memory
from fftnet_jax.ops.linear import linear
from fftnet_jax.ops.long import long_convolution, of_one_token
from fftnet_jax.ops.modes import Modes, angles, damped_waves
from fftnet_jax.ops.precision import EXACT

BLOCK, GROUP = 64, 32  # tokens of a block and channels at a time: about what a core's cache holds
TERMS = 4  # of a sum over channels that are added in one pass


@long_convolution.implements("cpu")
def convolve(
    u_BND: jax.Array, modes: Modes, skip_D, state_BMD=None, start=0, final_state=True, block: int = BLOCK, group=GROUP
) -> tuple[jax.Array, jax.Array | None]:
    """`long_convolution` in blocks of at most `block` tokens, for at most `group` channels at a time."""
    if u_BND.shape[1] == 1 and state_BMD is not None:
        return of_one_token("cpu", u_BND, modes, skip_D, state_BMD, start)
    batch, length, width = u_BND.shape
    blocks, groups = -(-length // block), -(-width // group)
    size, group = -(-length // blocks), -(-width // groups)
    carry = Carry(modes, size, blocks, length - (blocks - 1) * size, start)
    carried = blocks > 1 or state_BMD is not None

    @jax.checkpoint
    def channels(part):
        u_CBKT, taps_CT, mix_CM, state = part
        y_CBKT = _by_channel(u_CBKT, _toeplitz(taps_CT))
        ahead = [z_CBM[:, :, None] for z_CBM in state]
        if carried:
            ahead = carry.states(u_CBKT, state)
            y_CBKT += carry.output(ahead, mix_CM)
        return y_CBKT, carry.last(u_CBKT, ahead) if final_state else None

    idle = groups * group - width
    u_BND = jnp.pad(u_BND.astype(jnp.float32), ((0, 0), (0, blocks * size - length), (0, idle)))
    u_GCBKT = _to_groups(u_BND.reshape(batch, blocks, size, groups, group))

    def grouped(z):
        """Arrays (…, D) as (G, C, …)."""
        return jnp.moveaxis(jnp.pad(z, [(0, 0)] * (z.ndim - 1) + [(0, idle)]), -1, 0).reshape(
            groups, group, *z.shape[:-1]
        )

    taps_GCT, mix_GCM = grouped(modes.taps(size, skip_D)), grouped(modes.mix_MD)
    if state_BMD is None:
        state_BMD = jnp.zeros((batch, 2 * len(modes.decay_M), width))
    state = jnp.split(grouped(state_BMD), 2, axis=3)
    y_GCBKT, state = jax.lax.map(channels, (u_GCBKT, taps_GCT, mix_GCM, state))
    y_BND = _to_tokens(y_GCBKT).reshape(batch, blocks * size, -1)[:, :length, :width]
    if not final_state:
        return y_BND, None
    state_DBM = jnp.concatenate(state, axis=3).reshape(groups * group, batch, -1)
    return y_BND, state_DBM[:width].transpose(1, 2, 0)


class Carry:
    """The state of the modes from block to block, each of T tokens but for the last, of `rest`.

    Each phase is taken afresh from its position: a block's are turned to the first token's, and back.
    """

    def __init__(self, modes: Modes, size: int, blocks: int, rest: int, start):
        decay_M, frequency_M, _ = modes
        lag_T = jnp.arange(size)
        waves = partial(damped_waves, decay_M, frequency_M)
        self._into = jnp.split(waves(lag_T[::-1], lag_T), 2, axis=1)
        self._last = jnp.split(waves(jnp.maximum(rest - 1 - lag_T, 0), lag_T), 2, axis=1)
        self._out = [wave_MT[None] for wave_MT in jnp.split(waves(lag_T + 1, lag_T).T, 2)]
        position_K = jnp.asarray(start, jnp.float32) + size * jnp.arange(blocks, dtype=jnp.float32)
        turn_KM = angles(position_K, frequency_M)
        self._turn = jnp.cos(turn_KM), jnp.sin(turn_KM)
        # Parts of the state that are lost in a block: exp would round a slow mode's decay away.
        self._lost_M, self._lost_in_rest_M = jnp.expm1(-size * decay_M), jnp.expm1(-rest * decay_M)

    def states(self, u_CBKT, state):
        """Ahead of each block, a pair of (C, B, K, M), from the pair (C, B, M) ahead of the first."""
        added = _turned([_product(u_CBKT, wave_TM) for wave_TM in self._into], self._turn)
        return _states_before(added, self._lost_M, state)

    def output(self, ahead, mix_CM):
        """What each block's output (C, B, K, T) owes to the blocks before."""
        cos_KM, sin_KM = self._turn
        C_CBKM, S_CBKM = _turned(ahead, (cos_KM, -sin_KM))
        a_CM1, b_CM1 = jnp.split(mix_CM[..., None], 2, axis=1)
        cos_1MT, sin_1MT = self._out
        return _by_channel(C_CBKM, a_CM1 * cos_1MT + b_CM1 * sin_1MT) + _by_channel(
            S_CBKM, a_CM1 * sin_1MT - b_CM1 * cos_1MT
        )

    def last(self, u_CBKT, ahead):
        """The pair (C, B, M) after the last block."""
        (cos_M, sin_M), lost_M = (z_KM[-1][None, None] for z_KM in self._turn), self._lost_in_rest_M[None, None]
        C, S = (jnp.matmul(u_CBKT[:, :, -1], wave_TM, precision=EXACT) for wave_TM in self._last)
        added = C * cos_M - S * sin_M, S * cos_M + C * sin_M
        state = (z_CBKM[:, :, -1] for z_CBKM in ahead)
        return [z_CBM + lost_M * z_CBM + more for z_CBM, more in zip(state, added, strict=True)]


# Each is the transpose of the other, so that going back to tokens is a pass of its own in the backward pass too.
def _to_groups(u_BKTGC):
    return linear(_groups, _tokens, (), u_BKTGC)


def _to_tokens(y_GCBKT):
    return linear(_tokens, _groups, (), y_GCBKT)


def _groups(_, u_BKTGC):
    return u_BKTGC.transpose(3, 4, 0, 1, 2)


def _tokens(_, y_GCBKT):
    return in_memory(y_GCBKT.transpose(2, 3, 4, 0, 1), axis=1)


def _toeplitz(taps_CT):
    """(C, T) → (C, T, T): the matrix that convolves a row of T tokens from the right."""
    return linear(_diagonals, _sum_of_diagonals, (), taps_CT)


def _diagonals(_, taps_CT):
    tokens = taps_CT.shape[1]
    lag_TT = jnp.arange(tokens)[None] - jnp.arange(tokens)[:, None]
    return jnp.where(lag_TT >= 0, jnp.take(taps_CT, jnp.abs(lag_TT), axis=1), 0.0)


def _sum_of_diagonals(_, dy_CTT):
    # A gap behind each row that is one longer than the rows moves each by one: diagonals become columns.
    channels, tokens, _ = dy_CTT.shape
    flat = jnp.pad(dy_CTT, ((0, 0), (0, 0), (0, tokens))).reshape(channels, -1)
    skewed = jnp.pad(flat, ((0, 0), (0, tokens))).reshape(channels, tokens, -1)
    return skewed[..., :tokens].sum(1)


def _by_channel(x_CBKE, matrix_CET):
    """Each channel's rows times its own matrix."""
    return linear(partial(_contract, axes=(3, 1)), partial(_contract, axes=((1, 2), (1, 2))), x_CBKE, matrix_CET)


def _product(x_CBKT, matrix_TM):
    """All rows times the same matrix."""

    def product(x_CBKT, matrix_TM):
        return jnp.matmul(x_CBKT, matrix_TM, precision=EXACT)

    def transpose(x_CBKT, dy_CBKM):
        # The sum over channels last: the operand that is transposed for it is that of `_by_channel`.
        return _contract(x_CBKT, dy_CBKM, ((1, 2), (1, 2))).sum(0)

    return linear(product, transpose, x_CBKT, matrix_TM)


def _contract(a, b, axes):
    axes = tuple(axis if isinstance(axis, tuple) else (axis,) for axis in axes)
    return jax.lax.dot_general(a, b, (axes, ((0,), (0,))), precision=EXACT)


def _turned(x, turn):
    """Complex numbers, a pair of (C, B, K, M), turned by those of their block and mode, a pair of (K, M)."""
    return linear(_turn, _turn_transposed, x, turn)


def _turn(x, turn):
    (a, b), (cos, sin) = ([_flat(z) for z in pair] for pair in (x, [z[None, None] for z in turn]))
    return [z.reshape(x[0].shape) for z in (a * cos - b * sin, b * cos + a * sin)]


def _turn_transposed(x, dy):
    along = _sum_of_channels(lambda a, b, da, db: da * a + db * b, *x, *dy)
    across = _sum_of_channels(lambda a, b, da, db: db * a - da * b, *x, *dy)
    return along, across


def _flat(x_CBKM):
    return x_CBKM.reshape(*x_CBKM.shape[:2], -1)  # long inner loops


def _sum_of_channels(function, *xs):
    """Sum over channels and batch of a function, number by number, of (C, B, K, M) arrays."""
    step = len(xs[0]) // TERMS if len(xs[0]) % TERMS == 0 else len(xs[0])
    return sum(function(*(x[i : i + step] for x in xs)) for i in range(0, len(xs[0]), step)).sum((0, 1))


@jax.custom_jvp
def _states_before(added, lost_M, state):
    """The state ahead of each block: each block loses a part of it (factors below 0) and adds its own."""
    return _recur(lost_M, (added, state))


@_states_before.defjvp
def _(primals, tangents):
    (added, lost_M, state), (d_added, d_lost_M, d_state) = primals, tangents
    ahead = _states_before(added, lost_M, state)
    d_added = [d + _scaled(z, d_lost_M) for d, z in zip(d_added, ahead, strict=True)]
    return ahead, linear(_recur, _recur_transposed, lost_M, (d_added, d_state))


def _scaled(x_CBKM, factor_M):
    def sums(x_CBKM, dy_CBKM):
        return _sum_of_channels(jnp.multiply, x_CBKM, dy_CBKM).sum(0)

    return linear(lambda x, factor_M: x * factor_M[None, None, None], sums, x_CBKM, factor_M)


def _recur(lost_M, added_and_state):
    return _recurrence(lost_M, *added_and_state, backwards=False)[0]


def _recur_transposed(lost_M, d_ahead):
    zero = [jnp.zeros_like(z_CBKM[:, :, 0]) for z_CBKM in d_ahead]
    d_added, d_state = _recurrence(lost_M, d_ahead, zero, backwards=True)
    return d_added, d_state


def _recurrence(lost_M, added, state, backwards):
    """What the state is ahead of each block, and after the last."""
    # In place, block after block: a scan would bring the blocks to the front first, and back.
    modes, blocks = added[0].shape[3], added[0].shape[2]

    def advance(index, carry):
        place = modes * (blocks - 1 - index if backwards else index)
        return [one(*parts, place) for parts in zip(carry, flat, strict=True)]

    def one(state_and_all, added_CBR, place):
        state_CBM, all_CBR = state_and_all
        all_CBR = jax.lax.dynamic_update_slice_in_dim(all_CBR, state_CBM, place, axis=2)
        new_CBM = jax.lax.dynamic_slice_in_dim(added_CBR, place, modes, axis=2)
        return state_CBM + lost_M[None, None] * state_CBM + new_CBM, all_CBR

    flat = [_flat(x_CBKM) for x_CBKM in added]
    start = [(z_CBM, jnp.zeros_like(x_CBR)) for z_CBM, x_CBR in zip(state, flat, strict=True)]
    found = jax.lax.fori_loop(0, blocks, advance, start)
    return [all_CBR.reshape(added[0].shape) for _, all_CBR in found], [after_CBM for after_CBM, _ in found]
