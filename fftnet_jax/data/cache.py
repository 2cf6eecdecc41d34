"""Where downloads and tokenised text are kept between runs."""

import os
import tempfile
from pathlib import Path


def cache_dir() -> Path:
    """The cache folder, not yet created: $FFTNET_JAX_CACHE, $XDG_CACHE_HOME/fftnet_jax or ~/.cache/fftnet_jax."""
    if own := os.environ.get("FFTNET_JAX_CACHE"):
        return Path(own)
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "fftnet_jax"


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path`, making its folders; other processes see the old file or the whole new one.

    Raises:
      OSError: the folder can't be written or the disk is full; no partial file stays behind.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name + ".")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
