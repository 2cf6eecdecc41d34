"""The causal STFT convolution by a plan made with a CPU's rates."""

from functools import partial

from fftnet_jax.ops.stft import stft_convolution
from fftnet_jax.ops.stft_forms import planned

stft_convolution.implements("cpu")(partial(planned, backend="cpu"))
