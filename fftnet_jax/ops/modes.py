"""Damped oscillations, the modes of a causal filter: its taps, and its output from running sums instead of the past.

    h[t] = sum over modes m of exp(-δ_m t) (a_m cos ω_m t + b_m sin ω_m t)

Since cos ω(t-s) = cos ωt cos ωs + sin ωt sin ωs, and sin likewise, the inputs u[s] up to t enter the output at
t only through two damped sums a mode, of constant size whatever the length of the past:

    C_m = sum over s of exp(-δ_m (t-s)) cos(ω_m s) u[s]        S_m: sin instead of cos

The mix (2M, D) holds a above b, the state (B, 2M, D) C above S. Only the damping recurs; each phase is computed
afresh from its position, so none drifts, and slow modes keep their precision however long the text.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fftnet_jax.ops.precision import EXACT

TURN = 6.283185307179586
TURN_PARTS = (6.28125, 253 * 2.0**-17, TURN - 6.28125 - 253 * 2.0**-17)  # the first two have 8 bits: exact multiples


class Modes(NamedTuple):
    """M oscillations and their share in the filters of D channels.

    Attributes:
      decay_M: δ, per token, at least 0. frequency_M: ω, radians per token.
      mix_MD: a above b, (2M, D).
    """

    decay_M: jax.Array
    frequency_M: jax.Array
    mix_MD: jax.Array

    def taps(self, length: int, skip_D: jax.Array | None = None) -> jax.Array:
        """The filter by lag, (L, D); `skip_D` is added at lag 0."""
        lag_L = jnp.arange(length)
        taps_LD = jnp.matmul(damped_waves(*self[:2], lag_L, lag_L), self.mix_MD, precision=EXACT)
        return taps_LD if skip_D is None else taps_LD.at[0].add(skip_D)


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
    C, S = jnp.split(state_BMD, 2, axis=1)
    a, b = jnp.split(mix_MD[None], 2, axis=1)
    mixed_BMD = jnp.concatenate([a * C - b * S, a * S + b * C], axis=1)
    return jnp.einsum("nm,bmd->bnd", waves_NM, mixed_BMD, precision=EXACT)


def advance_state(
    state_BMD: jax.Array, u_BND: jax.Array, decay_M: jax.Array, frequency_M: jax.Array, start
) -> jax.Array:
    """The state after N more inputs, the first of them at position `start`."""
    place_N = jnp.arange(u_BND.shape[1])
    waves_NM = damped_waves(decay_M, frequency_M, place_N[::-1], start + place_N)
    lost_M = jnp.expm1(-len(place_N) * decay_M)  # exp would round a slow mode's δ away
    lost_1M1 = jnp.concatenate([lost_M, lost_M])[None, :, None]
    added_BMD = jnp.einsum("nm,bnd->bmd", waves_NM, u_BND.astype(jnp.float32), precision=EXACT)
    return state_BMD + lost_1M1 * state_BMD + added_BMD


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
    # Its derivative is the plain product's, whose value is not used.
    plain_NM = jax.lax.stop_gradient(position_N)[:, None] * frequency_M[None]
    return jax.lax.stop_gradient(total_NM) + (plain_NM - jax.lax.stop_gradient(plain_NM))


def _halves(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The first 12 bits of each float32 number, and the other 12."""
    high = jax.lax.bitcast_convert_type(
        jax.lax.bitcast_convert_type(x, jnp.uint32) & jnp.uint32(0xFFFFF000), jnp.float32
    )
    return high, x - high
