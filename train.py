"""Train, or resume, a run: `python train.py --config experiments/shakespeare.py`."""

import sys

try:
    from fftnet_jax.cli.train import main, parse, run
except KeyboardInterrupt:  # the imports take seconds
    print("stopped", file=sys.stderr)
    sys.exit(130)

__all__ = ["main", "parse", "run"]

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
