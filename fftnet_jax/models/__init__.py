"""Models made of mixers: embeddings, blocks, encoder and decoder."""

from fftnet_jax.models.block import Block, FeedForward, FFTNetLayer
from fftnet_jax.models.decoder import Decoder, build_model
from fftnet_jax.models.embeddings import Embeddings
from fftnet_jax.models.encoder import Encoder

__all__ = ["Block", "Decoder", "Embeddings", "Encoder", "FFTNetLayer", "FeedForward", "build_model"]
