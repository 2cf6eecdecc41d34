"""What is faster on a CPU, a file an operation."""

from fftnet_jax.discovery import import_all

import_all(__name__, __path__)
