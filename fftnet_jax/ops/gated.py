"""The flagship's mixing between its two dense maps: short filters, gates and the long convolution."""

import jax
import jax.numpy as jnp

from fftnet_jax.ops.long import long_convolution
from fftnet_jax.ops.modes import Modes
from fftnet_jax.ops.select import operation
from fftnet_jax.ops.short import short_convolution


def _check(z_BNE, taps_KE, modes, skip_D):
    width = len(skip_D)
    if min(z_BNE.shape) < 1 or not z_BNE.shape[2] == taps_KE.shape[1] == 3 * width:
        raise ValueError(f"need N >= 1 and 3 D = {3 * width} channels, got {z_BNE.shape} and taps {taps_KE.shape}")


@operation(check=_check)
def gated_convolution(z_BNE: jax.Array, taps_KE: jax.Array, modes: Modes, skip_D: jax.Array) -> jax.Array:
    """q ⊙ (h * (k ⊙ v) + skip ⊙ k ⊙ v) with the taps h of `modes`: (B, N, 3 D) → (B, N, D), in the dtype of z.

    q, k, v are the thirds of z after short filters, with zeros before the first token.

    Args:
      taps_KE: of the short filters, by lag, (K, 3 D).

    Raises:
      ValueError: no tokens, or shapes that don't fit.
    """
    q, k, v = short_filters(z_BNE, taps_KE, short_convolution.reference)
    y_BND, _ = long_convolution.reference(k * v, modes, skip_D, final_state=False)
    return q * y_BND.astype(z_BNE.dtype)


def short_filters(z_BNE: jax.Array, taps_KE: jax.Array, convolve) -> list[jax.Array]:
    """q, k, v: each third (B, N, D) of z after its short filter, by `convolve`."""
    z_BME = jnp.pad(z_BNE, ((0, 0), (len(taps_KE) - 1, 0), (0, 0)))
    pairs = zip(jnp.split(z_BME, 3, axis=2), jnp.split(taps_KE, 3, axis=1), strict=True)
    return [convolve(z_BMD, taps_KD) for z_BMD, taps_KD in pairs]
