"""Pure functions on arrays: DFTs, causal windows, causal convolution, damped modes, modReLU. No parameters, no Flax.

The names by which `fftnet_jax.ops` has been known; see there for the operations, their definitions and implementations.
"""

import jax
import jax.numpy as jnp

from fftnet_jax.ops.activation import modrelu
from fftnet_jax.ops.cpu import long
from fftnet_jax.ops.modes import Modes, advance_state, angles, damped_waves, state_output
from fftnet_jax.ops.short import short_convolution
from fftnet_jax.ops.spectrum import window_spectrum
from fftnet_jax.ops.stft import stft_convolution as causal_stft
from fftnet_jax.ops.stft_plan import STFTPlan, plan_stft
from fftnet_jax.ops.taps import causal_convolution, fast_length
from fftnet_jax.ops.windows import causal_windows, valid_windows

__all__ = [
    "STFTPlan",
    "advance_state",
    "angles",
    "causal_convolution",
    "causal_stft",
    "causal_windows",
    "damped_waves",
    "fast_length",
    "irfft",
    "modal_convolution",
    "modrelu",
    "plan_stft",
    "rfft",
    "short_convolution",
    "state_output",
    "valid_windows",
    "window_spectrum",
]


def rfft(x: jax.Array, size: int) -> jax.Array:
    """(…, n) float32 → (…, size // 2 + 1) complex64, zero-padded or cut to `size`."""
    return jnp.fft.rfft(x, size)


def irfft(X: jax.Array, size: int) -> jax.Array:
    """(…, size // 2 + 1) complex64 → (…, size) float32."""
    return jnp.fft.irfft(X, size)


def modal_convolution(
    u_BND: jax.Array,
    decay_M: jax.Array,
    frequency_M: jax.Array,
    mix_MD: jax.Array,
    skip_D: jax.Array | None = None,
    block: int = long.BLOCK,
    group: int = long.GROUP,
) -> jax.Array:
    """`causal_convolution` with the taps of the modes, `damped_waves` @ mix, in O(N) and matrix products.

    Args:
      decay_M, frequency_M: see `damped_waves`.
      skip_D: added to the tap at lag 0.
      block, group: the most tokens of a block, and channels at a time.

    Returns: (B, N, D) float32.

    Raises:
      ValueError: no tokens or channels, another number of channels in the mix, or a block or group below 1.
    """
    if min(*u_BND.shape, block, group) < 1:
        raise ValueError(f"need B, N, D, block and group >= 1, got input {u_BND.shape}, block {block}, group {group}")
    if mix_MD.shape[1] != u_BND.shape[2]:
        raise ValueError(f"input and mix must have the same D, got {u_BND.shape} and {mix_MD.shape}")
    skip_D = jnp.zeros(u_BND.shape[2]) if skip_D is None else skip_D
    modes = Modes(decay_M, frequency_M, mix_MD)
    return long.convolve(u_BND, modes, skip_D, final_state=False, block=block, group=group)[0]
