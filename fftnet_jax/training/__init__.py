"""Training: `train(config, workdir)` runs or resumes a run."""

from fftnet_jax.errors import Diverged, HostLost, Interrupted, StorageError
from fftnet_jax.runs import LoadedRun, load
from fftnet_jax.training.loop import train

__all__ = ["Diverged", "HostLost", "Interrupted", "LoadedRun", "StorageError", "load", "train"]
