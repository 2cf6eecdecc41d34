"""What a run does beside training: one callback a file; see `base`."""

from fftnet_jax.parallel.hosts import is_first
from fftnet_jax.training.board import Board
from fftnet_jax.training.callbacks.base import Callback, Report, due
from fftnet_jax.training.callbacks.divergence import Divergence
from fftnet_jax.training.callbacks.histograms import Histograms
from fftnet_jax.training.callbacks.metrics import Metrics
from fftnet_jax.training.callbacks.pictures import Pictures
from fftnet_jax.training.callbacks.progress import Progress
from fftnet_jax.training.callbacks.samples import Samples
from fftnet_jax.training.callbacks.saving import Saving
from fftnet_jax.training.run import Run

__all__ = ["Callback", "Report", "due", "standard_callbacks"]


def standard_callbacks(run: Run) -> list[Callback]:
    """Those of every run, in the order in which they are called."""
    start, num_steps = int(run.state.step), run.setup.config.training.num_steps
    board = Board(run.folder.path, start, quiet=not is_first())
    return [
        Histograms(board),
        Progress(start, num_steps),
        Divergence(),  # before anything is written of the step that is one too many
        Metrics(board),
        Samples(board),
        Pictures(board),  # after the row that the loss curve ends with
        Saving(),  # last: a resumed run drops what was written after its checkpoint
    ]
