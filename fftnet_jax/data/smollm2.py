"""`python -m fftnet_jax.data.smollm2`, as `python -m fftnet_jax.interop.smollm2`."""

import sys

from fftnet_jax.interop.smollm2 import main

if __name__ == "__main__":
    sys.exit(main())
