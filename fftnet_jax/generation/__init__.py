"""Sampling text from decoders."""

from fftnet_jax.generation.decoding import check_room, generate
from fftnet_jax.generation.prompts import read_prompts
from fftnet_jax.generation.sampling import Sampling, keep_top, sample
from fftnet_jax.generation.text import stream_text

__all__ = ["Sampling", "check_room", "generate", "keep_top", "read_prompts", "sample", "stream_text"]
