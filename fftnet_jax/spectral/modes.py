"""Damped oscillations, the modes of a causal filter: its taps, and its output from running sums instead of the past.

    h[t] = sum over modes m of exp(-δ_m t) (a_m cos ω_m t + b_m sin ω_m t)

Since cos ω(t-s) = cos ωt cos ωs + sin ωt sin ωs, and sin likewise, the inputs u[s] up to t enter the output at
t only through two damped sums a mode, of constant size whatever the length of the past:

    C_m = sum over s of exp(-δ_m (t-s)) cos(ω_m s) u[s]        S_m: sin instead of cos

The mix (2M, D) holds a above b, the state (B, 2M, D) C above S. Only the damping recurs; each phase is computed
afresh from its position, so none drifts, and slow modes keep their precision however long the text.
"""

import jax
import jax.numpy as jnp

from fftnet_jax.spectral.convolution import causal_convolution

BLOCK = 2048  # tokens of a block: beyond, FFTs of whole sequences leave a core's cache
TURN = 6.283185307179586
TURN_PARTS = (6.28125, 253 * 2.0**-17, TURN - 6.28125 - 253 * 2.0**-17)  # the first two have 8 bits: exact multiples


def damped_waves(decay_M: jax.Array, frequency_M: jax.Array, age_N: jax.Array, position_N: jax.Array) -> jax.Array:
    """exp(-δ age) cos(ω position), and the same with sin beside it: (N, 2M) float32.

    Args:
      decay_M: δ, per token, at least 0. frequency_M: ω, radians per token.
      age_N, position_N: tokens, below 2^24.
    """
    envelope_NM = jnp.exp(-age_N.astype(jnp.float32)[:, None] * decay_M[None])
    angle_NM = angles(position_N.astype(jnp.float32), frequency_M)
    return jnp.concatenate([envelope_NM * jnp.cos(angle_NM), envelope_NM * jnp.sin(angle_NM)], axis=1)


def state_output(state_BMD: jax.Array, mix_MD: jax.Array, waves_NM: jax.Array) -> jax.Array:
    """What the filter makes, at N places, of the inputs in a state: (B, N, D).

    Args:
      waves_NM: `damped_waves` at the places' positions and with their ages, counted from the state's.
    """
    return jnp.einsum("nm,bmd->bnd", waves_NM, _mixed(state_BMD, mix_MD[None]))


def advance_state(
    state_BMD: jax.Array, u_BND: jax.Array, decay_M: jax.Array, frequency_M: jax.Array, start
) -> jax.Array:
    """The state after N more inputs, the first of them at position `start`."""
    place_N = jnp.arange(u_BND.shape[1])
    waves_NM = damped_waves(decay_M, frequency_M, place_N[::-1], start + place_N)
    lost_M = jnp.expm1(-len(place_N) * decay_M)  # exp would round a slow mode's δ away
    lost_1M1 = jnp.concatenate([lost_M, lost_M])[None, :, None]
    return state_BMD + lost_1M1 * state_BMD + jnp.einsum("nm,bnd->bmd", waves_NM, u_BND.astype(jnp.float32))


def modal_convolution(
    u_BND: jax.Array, decay_M: jax.Array, frequency_M: jax.Array, mix_MD: jax.Array, block: int = BLOCK
) -> jax.Array:
    """`causal_convolution` with the taps of the modes, in O(N): FFTs within blocks of tokens, states across them.

    Returns: (B, N, D) float32.

    Raises:
      ValueError: no tokens, or a block below 1.
    """
    batch, length, width = u_BND.shape
    if min(length, block) < 1:
        raise ValueError(f"need N >= 1 and block >= 1, got input {u_BND.shape} and block {block}")
    blocks = -(-length // block)
    size = -(-length // blocks)
    lag_T = jnp.arange(size)
    taps_TD = damped_waves(decay_M, frequency_M, lag_T, lag_T) @ mix_MD
    u_BND = jnp.pad(u_BND.astype(jnp.float32), ((0, 0), (0, blocks * size - length), (0, 0)))
    u_XTD = u_BND.reshape(batch * blocks, size, width)
    y_XTD = causal_convolution(u_XTD, taps_TD)
    if blocks > 1:
        state_BKMD = _states_before(u_XTD.reshape(batch, blocks, size, width), decay_M, frequency_M)
        mixed_XMD = _mixed(state_BKMD, mix_MD[None, None]).reshape(batch * blocks, -1, width)
        waves_TM = damped_waves(decay_M, frequency_M, lag_T + 1, lag_T)
        y_XTD += jnp.einsum("xtm,xmd->xtd", _repeated(waves_TM, len(u_XTD)), mixed_XMD)
    return y_XTD.reshape(batch, blocks * size, width)[:, :length]


def _states_before(u_BKTD, decay_M, frequency_M):
    """The state (B, K, 2M, D) ahead of each block, its phases counted from the block's first token."""
    batch, blocks, size, width = u_BKTD.shape
    place_T = jnp.arange(size)
    waves_TM = _repeated(damped_waves(decay_M, frequency_M, place_T[::-1], place_T), batch * blocks)
    added_XMD = jnp.einsum("xtm,xtd->xmd", waves_TM, u_BKTD.reshape(-1, size, width))
    added_BKMD = added_XMD.reshape(batch, blocks, -1, width)
    # Each phase afresh from its position, as in `advance_state`: the blocks' are turned to the first token's and back.
    turn_KM = angles(size * jnp.arange(blocks, dtype=jnp.float32), frequency_M)
    kept_M = jnp.exp(-size * decay_M)
    kept_1M1 = jnp.concatenate([kept_M, kept_M])[None, :, None]

    def advance(state_BMD, added_BMD):
        return kept_1M1 * state_BMD + added_BMD, state_BMD

    added_KBMD = _turned(added_BKMD, turn_KM).swapaxes(0, 1)
    _, state_KBMD = jax.lax.scan(advance, jnp.zeros_like(added_KBMD[0]), added_KBMD)
    return _turned(state_KBMD.swapaxes(0, 1), -turn_KM)


def _turned(state_BKMD, turn_KM):
    """The state with its phases counted from as many radians earlier."""
    C, S = jnp.split(state_BKMD, 2, axis=2)
    cos, sin = (wave_KM[None, ..., None] for wave_KM in (jnp.cos(turn_KM), jnp.sin(turn_KM)))
    return jnp.concatenate([C * cos - S * sin, S * cos + C * sin], axis=2)


def _mixed(state, mix):
    """The state of shape (…, 2M, D) with the weights of its waves in the output."""
    C, S = jnp.split(state, 2, axis=-2)
    a, b = jnp.split(mix, 2, axis=-2)
    return jnp.concatenate([a * C - b * S, a * S + b * C], axis=-2)


def _repeated(waves_TM, count):
    return jnp.broadcast_to(waves_TM[None], (count, *waves_TM.shape))


@jax.custom_jvp
def angles(position_N: jax.Array, frequency_M: jax.Array) -> jax.Array:
    """position × frequency less whole turns, (N, M), within about 1e-6; float32 both; gradient to the frequency only.

    A plain float32 product is off by up to 2e-3 radians at position 65,536 and frequency 1. Here every product
    is exact, of two halves of 12 bits, and is reduced by itself (Cody and Waite's method), which holds while
    position × frequency is below 2^16 turns.
    """
    total_NM = jnp.zeros((len(position_N), len(frequency_M)), jnp.float32)
    for position_N1 in (half_N[:, None] for half_N in _halves(position_N)):
        for frequency_1M in (half_M[None] for half_M in _halves(frequency_M)):
            product_NM = position_N1 * frequency_1M
            turns_NM = jnp.round(product_NM * (1 / TURN))
            for part in TURN_PARTS:
                product_NM = product_NM - turns_NM * part
            total_NM = total_NM + product_NM
    return total_NM


angles.defjvps(None, lambda tangent_M, _, position_N, frequency_M: position_N[:, None] * tangent_M[None])


def _halves(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The first 12 bits of each float32 number, and the other 12."""
    high = jax.lax.bitcast_convert_type(
        jax.lax.bitcast_convert_type(x, jnp.uint32) & jnp.uint32(0xFFFFF000), jnp.float32
    )
    return high, x - high
