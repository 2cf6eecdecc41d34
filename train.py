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
        parser.add_argument(
            "--accept_changes",
            action="store_true",
            help="go on with a run that was begun with other settings or data; changes.jsonl in its folder keeps them",
        )

    args, config = parse_config(argv, __doc__, add)
    return config, args.workdir or Path("runs") / Path(args.config).stem, args.accept_changes


def run(config, workdir, accept_changes) -> int:
    from fftnet_jax.training import (
        Diverged,
        Interrupted,
        StorageError,
        train,
    )  # JAX's seconds of import, not spent on --help

    try:
        train(config, workdir, accept_changes)
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return 130
    except (Diverged, StorageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
