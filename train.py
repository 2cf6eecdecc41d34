"""Train, or resume, a run: `python train.py --config experiments/shakespeare.py`."""

import os
import sys
from pathlib import Path

from fftnet_jax import huge_pages
from fftnet_jax.config.command_line import parse_config, run_command


def main(argv: list[str]) -> int:
    folders = []

    def action():
        config, args = parse(argv)
        folders.append(workdir := args.workdir or Path("runs") / Path(args.config).stem)
        return run(config, args, workdir)

    # Ctrl-C gets as far as here outside the steps.
    return run_command(action, lambda: stopped(folders))


def stopped(folders: list) -> str:
    from fftnet_jax.runs.folder import RunFolder

    return RunFolder(folders[0]).after_stop() if folders else "stopped"


def parse(argv: list[str]):
    def add(parser):
        parser.add_argument("--workdir", metavar="DIR", help="the run's folder (default: runs/NAME of the experiment)")
        parser.add_argument(
            "--accept_changes",
            action="store_true",
            help="go on with a run that was begun with other settings or data; changes.jsonl in its folder keeps them",
        )

        parser.add_argument(
            "--distributed",
            action="store_true",
            help="one of several processes, which JAX finds in a Slurm, GKE, Open MPI or TPU pod environment",
        )
        named = "; or set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID"
        parser.add_argument("--coordinator", metavar="HOST:PORT", help="of the first of several processes" + named)
        parser.add_argument("--num_processes", metavar="N", help="how many there are")
        parser.add_argument("--process_id", metavar="I", help="which of them this is, from 0")

    args, config = parse_config(argv, __doc__, add)
    return config, args


def run(config, args, workdir) -> int:
    from fftnet_jax.parallel.hosts import join, party
    from fftnet_jax.training import (
        Diverged,
        HostLost,
        Interrupted,
        StorageError,
        train,
    )  # JAX's seconds of import, not spent on --help

    several = party(args.distributed, args.coordinator, args.num_processes, args.process_id)
    if several:
        join(several)
    try:
        train(config, workdir, args.accept_changes)
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return 130
    except (Diverged, StorageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except HostLost as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        os._exit(1)  # an orderly end would wait for the one that is gone
    return 0


if __name__ == "__main__":
    huge_pages.restart()
    sys.exit(main(sys.argv[1:]))
