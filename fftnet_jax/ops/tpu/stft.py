"""The causal STFT convolution by a plan made with an accelerator's rates."""

from functools import partial

from fftnet_jax.ops.stft import stft_convolution
from fftnet_jax.ops.stft_forms import planned

stft_convolution.implements("tpu", "gpu")(partial(planned, backend="accelerator"))
