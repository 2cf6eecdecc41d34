"""Training: `train(config, workdir)` runs or resumes a run, `load(workdir)` opens it."""

from fftnet_jax.training.folder import StorageError
from fftnet_jax.training.hosts import HostLost
from fftnet_jax.training.load import LoadedRun, load
from fftnet_jax.training.loop import Diverged, Interrupted, train

__all__ = ["Diverged", "HostLost", "Interrupted", "LoadedRun", "StorageError", "load", "train"]
