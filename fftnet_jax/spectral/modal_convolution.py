"""Causal convolution with the taps of damped oscillations, in O(N) and matrix products.

Within blocks of T tokens the filter is a Toeplitz matrix for each channel; from block to block the state of the modes
is carried (see `modes`): its cosines and its sines, a pair of arrays. Channels come first, (C, B, K blocks, T), so that
a block's tokens, or modes, lie side by side.

The gradients of the parts are written out: what JAX derives sums and transposes in ways that XLA's CPU does slowly.
"""

import jax
import jax.numpy as jnp

from fftnet_jax.matmul import in_memory
from fftnet_jax.spectral.modes import angles, damped_waves

BLOCK, GROUP = 64, 32  # tokens of a block and channels at a time: about what a core's cache holds
TERMS = 4  # of a sum over channels that are added in one pass


def modal_convolution(
    u_BND: jax.Array,
    decay_M: jax.Array,
    frequency_M: jax.Array,
    mix_MD: jax.Array,
    skip_D: jax.Array | None = None,
    block: int = BLOCK,
    group: int = GROUP,
) -> jax.Array:
    """`causal_convolution` with the taps of the modes, `damped_waves` @ mix.

    A few channels at a time, recomputed for the gradient: the memory they touch stays in the caches.

    Args:
      decay_M, frequency_M: see `damped_waves`.
      skip_D: added to the tap at lag 0.
      block, group: the most tokens of a block, and channels at a time.

    Returns: (B, N, D) float32.

    Raises:
      ValueError: no tokens or channels, another number of channels in the mix, or a block or group below 1.
    """
    batch, length, width = u_BND.shape
    if min(*u_BND.shape, block, group) < 1:
        raise ValueError(f"need B, N, D, block and group >= 1, got input {u_BND.shape}, block {block}, group {group}")
    if mix_MD.shape[1] != width:
        raise ValueError(f"input and mix must have the same D, got {u_BND.shape} and {mix_MD.shape}")
    blocks, groups = -(-length // block), -(-width // group)
    size, group = -(-length // blocks), -(-width // groups)
    lag_T = jnp.arange(size)
    taps_TD = damped_waves(decay_M, frequency_M, lag_T, lag_T) @ mix_MD
    taps_TD = taps_TD if skip_D is None else taps_TD.at[0].add(skip_D)
    carry = _carry(decay_M, frequency_M, size, blocks) if blocks > 1 else None

    @jax.checkpoint
    def convolve(part):
        u_CBKT, taps_CT, mix_CM = part
        y_CBKT = _by_channel(u_CBKT, _toeplitz(taps_CT))
        return y_CBKT + carry(u_CBKT, mix_CM) if carry else y_CBKT

    idle = groups * group - width
    u_BND = jnp.pad(u_BND.astype(jnp.float32), ((0, 0), (0, blocks * size - length), (0, idle)))
    u_GCBKT = _to_groups(u_BND.reshape(batch, blocks, size, groups, group))
    taps_GCT, mix_GCM = (jnp.pad(z, ((0, 0), (0, idle))).T.reshape(groups, group, len(z)) for z in (taps_TD, mix_MD))
    y_GCBKT = jax.lax.map(convolve, (u_GCBKT, taps_GCT, mix_GCM))
    return _to_tokens(y_GCBKT).reshape(batch, blocks * size, -1)[:, :length, :width]


# Each is the gradient of the other, so that going back to tokens is a pass of its own in the backward pass too.
@jax.custom_vjp
def _to_groups(u_BKTGC):
    return u_BKTGC.transpose(3, 4, 0, 1, 2)


@jax.custom_vjp
def _to_tokens(y_GCBKT):
    return in_memory(y_GCBKT.transpose(2, 3, 4, 0, 1), axis=1)


_to_groups.defvjp(lambda u: (_to_groups(u), None), lambda _, dy: (_to_tokens(dy),))
_to_tokens.defvjp(lambda y: (_to_tokens(y), None), lambda _, dy: (_to_groups(dy),))


def _carry(decay_M, frequency_M, size, blocks):
    """A function of (C, B, K, T) inputs and their channels' mix: what each block's output owes to the blocks before."""
    lag_T = jnp.arange(size)
    into = jnp.split(damped_waves(decay_M, frequency_M, lag_T[::-1], lag_T), 2, axis=1)
    cos_1MT, sin_1MT = (wave[None] for wave in jnp.split(damped_waves(decay_M, frequency_M, lag_T + 1, lag_T).T, 2))
    # Each phase afresh from its position: a block's are turned to the first token's, and back.
    turn_KM = angles(size * jnp.arange(blocks, dtype=jnp.float32), frequency_M)
    cos_KM, sin_KM = jnp.cos(turn_KM), jnp.sin(turn_KM)
    lost_M = jnp.expm1(-size * decay_M)  # exp would round a slow mode's decay away

    def carried(u_CBKT, mix_CM):
        added = _turned([_product(u_CBKT, wave_TM) for wave_TM in into], (cos_KM, sin_KM))
        C_CBKM, S_CBKM = _turned(_states_before(added, lost_M), (cos_KM, -sin_KM))
        a_CM1, b_CM1 = jnp.split(mix_CM[..., None], 2, axis=1)
        return _by_channel(C_CBKM, a_CM1 * cos_1MT + b_CM1 * sin_1MT) + _by_channel(
            S_CBKM, a_CM1 * sin_1MT - b_CM1 * cos_1MT
        )

    return carried


@jax.custom_vjp
def _toeplitz(taps_CT):
    """(C, T) → (C, T, T): the matrix that convolves a row of T tokens from the right."""
    tokens = taps_CT.shape[1]
    lag_TT = jnp.arange(tokens)[None] - jnp.arange(tokens)[:, None]
    return jnp.where(lag_TT >= 0, jnp.take(taps_CT, jnp.abs(lag_TT), axis=1), 0.0)


def _toeplitz_backward(_, dy_CTT):
    # A gap behind each row that is one longer than the rows moves each by one: diagonals become columns.
    channels, tokens, _ = dy_CTT.shape
    flat = jnp.pad(dy_CTT, ((0, 0), (0, 0), (0, tokens))).reshape(channels, -1)
    skewed = jnp.pad(flat, ((0, 0), (0, tokens))).reshape(channels, tokens, -1)
    return (skewed[..., :tokens].sum(1),)


_toeplitz.defvjp(lambda taps_CT: (_toeplitz(taps_CT), None), _toeplitz_backward)


@jax.custom_vjp
def _by_channel(x_CBKE, matrix_CET):
    """Each channel's rows times its own matrix."""
    return _contract(x_CBKE, matrix_CET, 3, 1)


def _contract(a, b, axes_a, axes_b):
    axes_a, axes_b = (axes if isinstance(axes, tuple) else (axes,) for axes in (axes_a, axes_b))
    return jax.lax.dot_general(a, b, ((axes_a, axes_b), ((0,), (0,))))


def _by_channel_backward(residuals, dy_CBKT):
    x_CBKE, matrix_CET = residuals
    return _contract(dy_CBKT, matrix_CET, 3, 2), _contract(x_CBKE, dy_CBKT, (1, 2), (1, 2))


_by_channel.defvjp(lambda x, matrix: (_by_channel(x, matrix), (x, matrix)), _by_channel_backward)


@jax.custom_vjp
def _product(x_CBKT, matrix_TM):
    """All rows times the same matrix."""
    return x_CBKT @ matrix_TM


def _product_backward(residuals, dy_CBKM):
    x_CBKT, matrix_TM = residuals
    # The sum over channels last: the operand that is transposed for it is that of `_by_channel`.
    return _product(dy_CBKM, matrix_TM.T), _contract(x_CBKT, dy_CBKM, (1, 2), (1, 2)).sum(0)


_product.defvjp(lambda x, matrix: (_product(x, matrix), (x, matrix)), _product_backward)


@jax.custom_vjp
def _turned(x, turn):
    """Complex numbers, a pair of (C, B, K, M), turned by those of their block and mode, a pair of (K, M)."""
    (a, b), (cos, sin) = ([_flat(z) for z in pair] for pair in (x, [z[None, None] for z in turn]))
    return [z.reshape(x[0].shape) for z in (a * cos - b * sin, b * cos + a * sin)]


def _flat(x_CBKM):
    return x_CBKM.reshape(*x_CBKM.shape[:2], -1)  # long inner loops


def _turned_backward(residuals, dy):
    x, (cos_KM, sin_KM) = residuals
    along = _sum_of_channels(lambda a, b, da, db: da * a + db * b, *x, *dy)
    across = _sum_of_channels(lambda a, b, da, db: db * a - da * b, *x, *dy)
    return _turned(dy, (cos_KM, -sin_KM)), (along, across)


_turned.defvjp(lambda x, turn: (_turned(x, turn), (x, turn)), _turned_backward)


def _sum_of_channels(function, *xs):
    """Sum over channels and batch of a function, number by number, of (C, B, K, M) arrays."""
    step = len(xs[0]) // TERMS if len(xs[0]) % TERMS == 0 else len(xs[0])
    return sum(function(*(x[i : i + step] for x in xs)) for i in range(0, len(xs[0]), step)).sum((0, 1))


@jax.custom_vjp
def _states_before(added, lost_M):
    """The state ahead of each block: each block loses a part of it (factors below 0) and adds its own."""
    return _recur(added, lost_M, backwards=False)


def _states_forward(added, lost_M):
    states = _recur(added, lost_M, backwards=False)
    return states, (lost_M, states)


def _states_backward(residuals, dstates):
    lost_M, states = residuals
    dadded = _recur(dstates, lost_M, backwards=True)
    dlost_KM = sum(_sum_of_channels(jnp.multiply, *pair) for pair in zip(dadded, states, strict=True))
    return dadded, dlost_KM.sum(0)


_states_before.defvjp(_states_forward, _states_backward)


def _recur(added, lost_M, backwards):
    # In place, block after block: a scan would bring the blocks to the front first, and back.
    channels, batch, blocks, modes = added[0].shape

    def advance(index, carry):
        place = modes * (blocks - 1 - index if backwards else index)
        return [one(*parts, place) for parts in zip(carry, flat, strict=True)]

    def one(state_and_all, added_CBR, place):
        state_CBM, all_CBR = state_and_all
        all_CBR = jax.lax.dynamic_update_slice_in_dim(all_CBR, state_CBM, place, axis=2)
        new_CBM = jax.lax.dynamic_slice_in_dim(added_CBR, place, modes, axis=2)
        return state_CBM + lost_M[None, None] * state_CBM + new_CBM, all_CBR

    flat = [_flat(x_CBKM) for x_CBKM in added]
    start = [(jnp.zeros((channels, batch, modes)), jnp.zeros_like(x_CBR)) for x_CBR in flat]
    return [all_CBR.reshape(added[0].shape) for _, all_CBR in jax.lax.fori_loop(0, blocks, advance, start)]
