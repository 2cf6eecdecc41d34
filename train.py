"""Train, or resume, a run: `python train.py --config experiments/shakespeare.py`."""

import sys

from fftnet_jax.cli.train import main, parse, run

__all__ = ["main", "parse", "run"]

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
