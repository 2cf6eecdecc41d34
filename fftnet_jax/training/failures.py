"""What ends a run from outside, as the exceptions that say so."""

import contextlib
from collections.abc import Iterator

from fftnet_jax.errors import HostLost, StorageError
from fftnet_jax.parallel.hosts import INTACT, is_loss
from fftnet_jax.runs.checkpoints import Checkpoints
from fftnet_jax.runs.folder import RunFolder


@contextlib.contextmanager
def storage_errors(folder: RunFolder) -> Iterator[None]:
    """Turns what the system says of a full disk or a lost folder into StorageError."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{folder.path} can't be written: {error.strerror or error}") from error


@contextlib.contextmanager
def lost_hosts(checkpoints: Checkpoints) -> Iterator[None]:
    """Turns what JAX says of a lost process into HostLost; nothing waits for that process any more."""
    try:
        yield
    except Exception as error:  # of JAX or Orbax, which have many
        if not is_loss(error):
            raise
        checkpoints.abandon()
        reason = str(error).strip().splitlines()[0][:160]
        raise HostLost(f"another process of this run is gone ({reason}); {INTACT}") from error
