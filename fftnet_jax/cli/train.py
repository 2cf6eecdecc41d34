"""Train, or resume, a run: `python train.py --config experiments/shakespeare.py`."""

import os
import sys
from pathlib import Path

from fftnet_jax.config.command_line import parse_config, run_command
from fftnet_jax.parallel.hosts import join, party
from fftnet_jax.runs.folder import RunFolder
from fftnet_jax.training import Diverged, HostLost, Interrupted, StorageError, train


def main(argv: list[str]) -> int:
    folders = []

    def action():
        config, args = parse(argv)
        folders.append(_workdir(args))
        return run(config, args)

    # Ctrl-C gets as far as here outside the steps.
    return run_command(action, lambda: RunFolder(folders[0]).after_stop() if folders else "stopped")


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


def run(config, args) -> int:
    several = party(args.distributed, args.coordinator, args.num_processes, args.process_id)
    if several:
        join(several)
    try:
        train(config, _workdir(args), args.accept_changes)
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


def _workdir(args) -> Path:
    return Path(args.workdir or Path("runs") / Path(args.config).stem)
