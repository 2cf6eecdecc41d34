"""Continue a prompt with a trained run: `python generate.py --workdir runs/shakespeare --prompt "ROMEO:"`."""

import sys

try:
    from fftnet_jax.cli.generate import main, parse, write_text
except KeyboardInterrupt:  # the imports take seconds
    print("stopped", file=sys.stderr)
    sys.exit(130)

__all__ = ["main", "parse", "write_text"]

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
