"""Causal depthwise convolution with few taps."""

import jax

from fftnet_jax.ops.select import operation


def _check(x_BMD, taps_KD):
    if x_BMD.shape[1] < len(taps_KD):
        raise ValueError(f"need at least as many tokens as taps, got input {x_BMD.shape} and taps {taps_KD.shape}")


@operation(check=_check)
def short_convolution(x_BMD: jax.Array, taps_KD: jax.Array) -> jax.Array:
    """y[n] = sum over lags l of taps[l] x[n - l], channel by channel: (B, N, D), in the dtype of x.

    Args:
      x_BMD: the K - 1 tokens before the first output, then those of the N outputs (M = N + K - 1).

    Raises:
      ValueError: fewer tokens than taps.
    """
    taps, length = len(taps_KD), x_BMD.shape[1] - len(taps_KD) + 1
    taps_KD = taps_KD.astype(x_BMD.dtype)
    return sum(taps_KD[lag][None, None] * span(x_BMD, taps - 1 - lag, length) for lag in range(taps))


def span(x_BND: jax.Array, start: int, length: int) -> jax.Array:
    """So many tokens from `start` on."""
    return jax.lax.slice_in_dim(x_BND, start, start + length, axis=1)
