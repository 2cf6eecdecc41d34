"""What is faster on a TPU, and on a GPU until that has its own, a file an operation."""

from fftnet_jax.discovery import import_all

import_all(__name__, __path__)
