"""A finished run and its validation split, for studies of what was trained."""

from collections.abc import Callable

from benchmarks import command_line
from fftnet_jax.data import eval_batches
from fftnet_jax.tasks import load_dataset

ROWS = 256  # of a batch


def opened(argv, about: str, load: Callable):
    """The run that `--workdir` names, read by `load`, and the batches of its whole validation split."""
    parser = command_line.parser(about)
    parser.add_argument("--workdir", default="runs/shakespeare")
    run = load(parser.parse_args(argv).workdir)
    source = load_dataset(run.config.data, run.config.model.family, run.config.seed).validation
    return run, list(eval_batches(source, ROWS))
