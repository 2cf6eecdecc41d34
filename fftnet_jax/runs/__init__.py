"""A run's folder: its configuration, checkpoints and seals, who may use it, and opening what is in it."""

from fftnet_jax.runs.opening import LoadedRun, load, load_decoder

__all__ = ["LoadedRun", "load", "load_decoder"]
