"""What the mathematics needs: operations with their definitions, and what is faster for a kind of device.

An operation is a file: signature and definition on top. `cpu/`, `tpu/` and `gpu/` hold implementations; `select`
chooses. Every operation takes `implementation=`, and `with fftnet_jax.ops.use("reference"):` decides for all that is
called inside.
"""

from fftnet_jax.ops import cpu, gpu, tpu  # noqa: F401  they register themselves
from fftnet_jax.ops.activation import modrelu
from fftnet_jax.ops.attention import causal_attention
from fftnet_jax.ops.cross_entropy import CrossEntropy, linear_sums, linear_token_sums
from fftnet_jax.ops.dense import matmul, matmul_outputs_first, matmuls
from fftnet_jax.ops.fourier import channel_dft, irfft, real_token_dft, rfft
from fftnet_jax.ops.gated import gated_convolution
from fftnet_jax.ops.head import head_logits, head_parts
from fftnet_jax.ops.int8 import Int8, prepared_weight, quantised, weight_product, weight_products
from fftnet_jax.ops.long import long_convolution, one_token, token_filter
from fftnet_jax.ops.modes import Modes
from fftnet_jax.ops.select import choose, compiled_for, explain, operation, use
from fftnet_jax.ops.short import short_convolution
from fftnet_jax.ops.spectrum import window_spectrum
from fftnet_jax.ops.stft import stft_convolution
from fftnet_jax.ops.taps import causal_convolution

__all__ = [
    "CrossEntropy",
    "Int8",
    "Modes",
    "causal_attention",
    "causal_convolution",
    "channel_dft",
    "choose",
    "compiled_for",
    "explain",
    "gated_convolution",
    "head_logits",
    "head_parts",
    "irfft",
    "linear_sums",
    "linear_token_sums",
    "long_convolution",
    "matmul",
    "matmul_outputs_first",
    "matmuls",
    "modrelu",
    "one_token",
    "operation",
    "prepared_weight",
    "quantised",
    "real_token_dft",
    "rfft",
    "short_convolution",
    "stft_convolution",
    "token_filter",
    "use",
    "weight_product",
    "weight_products",
    "window_spectrum",
]
