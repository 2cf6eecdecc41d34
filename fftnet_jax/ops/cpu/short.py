"""Short convolution whose gradients suit XLA's CPU: no copies of the input, and sums that stay in the caches."""

import jax
import jax.numpy as jnp

from fftnet_jax.ops.linear import linear
from fftnet_jax.ops.short import short_convolution, span

SEGMENT = 128  # rows of a segment in the gradient of the taps


@short_convolution.implements("cpu")
@jax.custom_jvp
def convolve(x_BMD: jax.Array, taps_KD: jax.Array) -> jax.Array:
    return short_convolution.reference(x_BMD, taps_KD)


def _jvp(primals, tangents):
    x_BMD, taps_KD = primals
    dx_BMD, dtaps_KD = tangents
    y_BND = convolve(x_BMD, taps_KD)
    of_x = linear(_swapped, _input_gradient, taps_KD, dx_BMD)
    return y_BND, of_x + linear(short_convolution.reference, _taps_gradient, x_BMD, dtaps_KD)


convolve.defjvp(_jvp)


def _swapped(taps_KD, x_BMD):
    return short_convolution.reference(x_BMD, taps_KD)


def _input_gradient(taps_KD, dy_BND):
    taps, length = len(taps_KD), dy_BND.shape[1] + len(taps_KD) - 1
    padded, kernel_KD = _padded(dy_BND, taps), taps_KD.astype(dy_BND.dtype)
    return sum(kernel_KD[lag][None, None] * span(padded, lag, length) for lag in range(taps))


def _padded(dy_BND, taps):
    return jnp.pad(dy_BND, ((0, 0), (taps - 1, taps - 1), (0, 0)))


def _taps_gradient(x_BMD, dy_BND):
    """Sum of dy[n] x[n - lag] for each lag and channel, a segment of tokens at a time: the running sums, one for each
    place in a segment, stay in the caches."""
    batch, length, _ = dy_BND.shape
    taps = x_BMD.shape[1] - length + 1
    padded = _padded(dy_BND, taps)  # what the input's gradient needs too, so that dy is not kept beside it
    size = min(max(1, SEGMENT // batch), length)
    segments = length // size

    def products(start, size):
        x_BSD = jax.lax.dynamic_slice_in_dim(x_BMD, start, size + taps - 1, axis=1).astype(jnp.float32)
        dy_BSD = jax.lax.dynamic_slice_in_dim(padded, start + taps - 1, size, axis=1).astype(jnp.float32)
        return [dy_BSD * span(x_BSD, taps - 1 - lag, size) for lag in range(taps)]

    def add(index, totals):
        return [total + more for total, more in zip(totals, products(index * size, size), strict=True)]

    totals = [jnp.zeros((batch, size, x_BMD.shape[2]))] * taps
    totals = jax.lax.fori_loop(0, segments, add, totals) if segments > 1 else products(0, size)
    rest = length - segments * size
    parts = [totals, products(segments * size, rest)] if rest else [totals]
    return sum(jnp.stack([total.sum((0, 1)) for total in part]) for part in parts)
