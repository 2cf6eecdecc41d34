"""Causal convolution with the taps of damped oscillations, from a state to a state."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fftnet_jax.ops.modes import Modes, advance_state, angles, damped_waves, state_output
from fftnet_jax.ops.precision import EXACT
from fftnet_jax.ops.select import operation


def _check(u_BND, modes, skip_D, state_BMD=None, start=0, final_state=True):
    batch, _, width = u_BND.shape
    if min(u_BND.shape) < 1 or modes.mix_MD.shape[1] != width:
        raise ValueError(f"need B, N, D >= 1 and a mix of the same D, got {u_BND.shape} and {modes.mix_MD.shape}")
    wanted = (batch, 2 * len(modes.decay_M), width)
    if state_BMD is not None and state_BMD.shape != wanted:
        raise ValueError(f"state must be (B, 2M, D) = {wanted}, got {state_BMD.shape}")


@operation(check=_check)
def long_convolution(
    u_BND: jax.Array,
    modes: Modes,
    skip_D: jax.Array,
    state_BMD: jax.Array | None = None,
    start: jax.Array | int = 0,
    final_state: bool = True,
) -> tuple[jax.Array, jax.Array | None]:
    """y = h * u + skip ⊙ u with the taps h of `modes`: the output (B, N, D), float32, and the state after it.

    The definition, a lag at a time: O(N²). What came before the first token enters through the state.

    Args:
      u_BND: input, any real type; computed in float32.
      state_BMD: of the inputs before, (B, 2M, D); None for none. See `modes`.
      start: position of the first token, which the state's phases count from.
      final_state: give None in place of the state after it, which then costs nothing.

    Raises:
      ValueError: no tokens, or shapes that don't fit.
    """
    length, u_BND = u_BND.shape[1], u_BND.astype(jnp.float32)
    padded_BMD = jnp.pad(u_BND, ((0, 0), (length, 0), (0, 0)))

    @jax.checkpoint  # or each lag would keep its copy of the input
    def add(y_BND, at):
        lag, tap_D = at
        return y_BND + tap_D[None, None] * jax.lax.dynamic_slice_in_dim(padded_BMD, length - lag, length, 1), None

    y_BND, _ = jax.lax.scan(add, jnp.zeros_like(u_BND), (jnp.arange(length), modes.taps(length, skip_D)))
    if state_BMD is None:
        state_BMD = empty_state(u_BND, modes)
    else:
        place_N = jnp.arange(length)
        y_BND += state_output(state_BMD, modes.mix_MD, damped_waves(*modes[:2], place_N + 1, start + place_N))
    return y_BND, advance_state(state_BMD, u_BND, *modes[:2], start) if final_state else None


class TokenFilter(NamedTuple):
    """`Modes` as the step of one token reads them, 2M rows as in the state: sines are cosines a quarter turn behind.

    Attributes:
      lost_M: what a token's time adds to a state of 1, at most 0.
      frequency_M: radians per token. phase_M: radians.
      cos_MD, sin_MD: the output's share of each state, times the cosine and the sine of its angle.
    """

    lost_M: jax.Array
    frequency_M: jax.Array
    phase_M: jax.Array
    cos_MD: jax.Array
    sin_MD: jax.Array

    def waves(self, position) -> tuple[jax.Array, jax.Array]:
        """Cosines and sines of the angles at a position, (2M,) each; the cosines are what an input adds to a state."""
        angle_M = angles(jnp.asarray(position, jnp.float32)[None], self.frequency_M)[0] + self.phase_M
        return jnp.cos(angle_M), jnp.sin(angle_M)

    def advance(self, state_BMD, u_BD, cos_M) -> jax.Array:
        """The state after one more input."""
        return state_BMD + self.lost_M[None, :, None] * state_BMD + cos_M[None, :, None] * u_BD[:, None]


def token_filter(modes: Modes) -> TokenFilter:
    """What `one_token` reads; computed once for all tokens."""
    a, b = jnp.split(modes.mix_MD, 2)
    lost_M = jnp.expm1(-jnp.concatenate([modes.decay_M] * 2))  # exp would round a slow mode's decay away
    frequency_M = jnp.concatenate([modes.frequency_M] * 2)
    phase_M = jnp.repeat(jnp.array([0.0, -jnp.pi / 2]), len(modes.decay_M))
    return TokenFilter(lost_M, frequency_M, phase_M, jnp.concatenate([a, a]), jnp.concatenate([b, b]))


@operation
def one_token(u_BD, token: TokenFilter, skip_D, state_BMD, position) -> tuple[jax.Array, jax.Array]:
    """`long_convolution` of one token (B, D): its output and the state after it."""
    u_BD = u_BD.astype(jnp.float32)
    # The barrier keeps each cosine from being computed anew for every channel.
    cos_M, sin_M = jax.lax.optimization_barrier(token.waves(position))
    state_BMD = token.advance(state_BMD, u_BD, cos_M)
    shares_PBMD = jnp.stack([token.cos_MD, token.sin_MD])[:, None] * state_BMD[None]
    y_BD = jnp.einsum("pm,pbmd->bd", jnp.stack([cos_M, sin_M]), shares_PBMD, precision=EXACT)
    return y_BD + skip_D[None] * u_BD, state_BMD


def of_one_token(form: str, u_B1D, modes: Modes, skip_D, state_BMD, position) -> tuple[jax.Array, jax.Array]:
    """A form of `one_token` with the signature of `long_convolution`."""
    y_BD, state_BMD = one_token.form(form)(u_B1D[:, 0], token_filter(modes), skip_D, state_BMD, position)
    return y_BD[:, None], state_BMD


def empty_state(u_BND: jax.Array, modes: Modes) -> jax.Array:
    """The state before the first token: zeros (B, 2M, D)."""
    return jnp.zeros((u_BND.shape[0], 2 * len(modes.decay_M), u_BND.shape[2]), jnp.float32)
