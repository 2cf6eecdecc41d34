"""One live run per folder: a lock that the system lets go of when its process ends, however it ends."""

import os
from pathlib import Path

from fftnet_jax.errors import ConfigError


class Lock:
    """Context that holds the file `lock` in a run's folder, and takes it away at its end.

    Raises:
      ConfigError: another process holds it.
    """

    def __init__(self, folder: Path):
        self.path = folder / "lock"

    def __enter__(self):
        self._file = self._open()
        while not self._is_current():  # a run that just ended took the file away between our opening and locking it
            os.close(self._file)
            self._file = self._open()
        os.ftruncate(self._file, 0)
        os.write(self._file, f"{os.getpid()}\n".encode())
        return self

    def __exit__(self, *exception):
        if self._is_current():
            self.path.unlink()
        os.close(self._file)

    def _open(self) -> int:
        import fcntl  # not on Windows, where nobody is kept out

        file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(file, 32).decode(errors="replace").strip() or "unknown"
            os.close(file)
            raise ConfigError(
                f"--workdir {self.path.parent} is in use by a live run (process {owner}); "
                f"wait until it ends, or take another --workdir"
            ) from None
        return file

    def _is_current(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._file), os.stat(self.path))
        except FileNotFoundError:
            return False
