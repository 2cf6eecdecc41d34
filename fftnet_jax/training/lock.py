"""One live run per folder: a lock that the system lets go of when its process ends, however it ends."""

import os
from pathlib import Path

from fftnet_jax.config import ConfigError


class Lock:
    """Context that holds the file `lock` in a run's folder.

    Raises:
      ConfigError: another process holds it.
    """

    def __init__(self, folder: Path):
        self.path = folder / "lock"

    def __enter__(self):
        import fcntl  # not on Windows, where nobody is kept out

        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(self._file, 32).decode(errors="replace").strip() or "unknown"
            os.close(self._file)
            raise ConfigError(
                f"--workdir {self.path.parent} is in use by a live run (process {owner}); "
                f"wait until it ends, or take another --workdir"
            ) from None
        os.ftruncate(self._file, 0)
        os.write(self._file, f"{os.getpid()}\n".encode())
        return self

    def __exit__(self, *exception):
        os.close(self._file)
