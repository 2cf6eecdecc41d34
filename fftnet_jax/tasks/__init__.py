"""What is learnt from which data: one task a file, each registers itself; see `base`."""

from fftnet_jax.discovery import import_all
from fftnet_jax.tasks.base import Task, load_dataset, register, task_for

import_all(__name__, __path__)

__all__ = ["Task", "load_dataset", "register", "task_for"]
