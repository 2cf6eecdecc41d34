"""Weights of other programs: `from_torch` reads the state dicts of the two PyTorch originals."""

from fftnet_jax.interop.originals import from_torch

__all__ = ["from_torch"]
