"""Long convolution as one FFT, zero-padded, of the whole sequence."""

import jax.numpy as jnp

from fftnet_jax.ops.long import empty_state, long_convolution, one_token
from fftnet_jax.ops.modes import Modes, advance_state, damped_waves, state_output
from fftnet_jax.ops.taps import causal_convolution


@long_convolution.implements("tpu", "gpu")
def convolve(u_BND, modes: Modes, skip_D, state_BMD=None, start=0, final_state=True):
    length, first = u_BND.shape[1], state_BMD is None
    state_BMD = empty_state(u_BND, modes) if first else state_BMD
    if length == 1 and not first:
        return one_token(u_BND, modes, skip_D, state_BMD, start)
    y_BND = causal_convolution(u_BND, modes.taps(length, skip_D))
    if not first:
        place_N = jnp.arange(length)
        waves_NM = damped_waves(modes.decay_M, modes.frequency_M, place_N + 1, start + place_N)
        y_BND += state_output(state_BMD, modes.mix_MD, waves_NM)
    if not final_state:
        return y_BND, None
    return y_BND, advance_state(state_BMD, u_BND, modes.decay_M, modes.frequency_M, start)
