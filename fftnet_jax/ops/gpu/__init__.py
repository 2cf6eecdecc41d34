"""What is faster on a GPU, a file an operation."""

from fftnet_jax.discovery import import_all

import_all(__name__, __path__)
