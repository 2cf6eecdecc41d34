"""The gated convolution on a TPU: short filters and gates within the long convolution's kernels."""

from fftnet_jax.ops.gated import gated_convolution, short_filters
from fftnet_jax.ops.modes import Modes
from fftnet_jax.ops.short import short_convolution
from fftnet_jax.ops.tpu.long import convolve as in_blocks
from fftnet_jax.ops.tpu.long_kernel import by_kernels, fits


@gated_convolution.implements("tpu")
def convolve(z_BNE, taps_KE, modes: Modes, skip_D, interpret=False):
    """`gated_convolution`, by kernels where their tiles fit."""
    if not fits(z_BNE, taps_KE, skip_D):
        return _plain(z_BNE, taps_KE, modes, skip_D)
    return by_kernels(_plain, z_BNE, taps_KE, modes, skip_D, interpret)


def _plain(z_BNE, taps_KE, modes, skip_D):
    q, k, v = short_filters(z_BNE, taps_KE, short_convolution.reference)
    return q * in_blocks(k * v, modes, skip_D, final_state=False)[0].astype(z_BNE.dtype)
