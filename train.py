"""Train, or resume, a run: `python train.py --config experiments/shakespeare.py`."""

import sys
from pathlib import Path

from fftnet_jax.command import parse_config, run_command


def main(argv: list[str]) -> int:
    # Ctrl-C gets as far as here outside the steps, or when it is pressed twice.
    return run_command(lambda: run(*parse(argv)), "stopped; the same command goes on from the last checkpoint")


def parse(argv: list[str]):
    def add(parser):
        parser.add_argument("--workdir", metavar="DIR", help="the run's folder (default: runs/NAME of the experiment)")

    args, config = parse_config(argv, __doc__, add)
    return config, args.workdir or Path("runs") / Path(args.config).stem


def run(config, workdir) -> int:
    from fftnet_jax.training import Diverged, Interrupted, train  # JAX's seconds of import, not spent on --help

    try:
        train(config, workdir)
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return 130
    except Diverged as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
