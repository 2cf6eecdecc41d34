"""Training: `train(config, workdir)` runs or resumes a run; see `setup`, `loop` and `callbacks`."""

from fftnet_jax.errors import Diverged, HostLost, Interrupted, StorageError
from fftnet_jax.runs import LoadedRun, load
from fftnet_jax.training.callbacks import Callback, Report, standard_callbacks
from fftnet_jax.training.loop import train
from fftnet_jax.training.setup import Setup, set_up

__all__ = [
    "Callback",
    "Diverged",
    "HostLost",
    "Interrupted",
    "LoadedRun",
    "Report",
    "Setup",
    "StorageError",
    "load",
    "set_up",
    "standard_callbacks",
    "train",
]
