"""Seals: what a finished checkpoint's folder held, so that any later damage is found before anything is restored.

Orbax checks the arrays it reads, and not always, nor the files around them. A seal names every file of a step with its
size and SHA-256, and the step itself; a folder without one was not finished.
"""

import hashlib
import json
from pathlib import Path

from fftnet_jax.files import sha256_of, write_atomic

NAME = "seal.json"


def seal(folder: Path) -> None:
    """Writes the seal of the finished step in `folder`, whose name is the step."""
    body = json.dumps({"step": folder.name, "files": _files(folder)}, sort_keys=True, indent=1)
    # The first line vouches for the rest: a seal may be damaged too.
    write_atomic(folder / NAME, f"{_sha256(body)}\n{body}".encode())


def is_sealed(folder: Path) -> bool:
    return (folder / NAME).is_file()


def damage(folder: Path) -> str:
    """What is wrong with the step in `folder`, in a few words; empty if it is as it was sealed."""
    try:
        digest, _, body = (folder / NAME).read_text(encoding="utf-8").partition("\n")
    except FileNotFoundError:
        return "it was not finished"
    except (OSError, ValueError) as error:
        return f"{NAME} can't be read ({type(error).__name__})"
    if digest != _sha256(body):
        return f"{NAME} is damaged"
    try:
        sealed = json.loads(body)
        step, files = sealed["step"], dict(sealed["files"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return f"{NAME} is no seal"
    if step != folder.name:
        return f"it is step {str(step)[:40]}"
    try:
        found = _files(folder)
    except OSError as error:
        return f"a file can't be read ({error.strerror})"
    for name in sorted(files.keys() | found.keys()):
        if name not in found:
            return f"{name} is missing"
        if name not in files:
            return f"{name} was not there"
        if found[name] != files[name]:
            return f"{name} was changed"
    return ""


def _files(folder: Path) -> dict[str, list]:
    """Size and SHA-256 of each file by its path in `folder`; None for folders, which may be empty."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir():
            found[name] = None
        elif not name.startswith(NAME):  # the seal itself, and one half written
            found[name] = [path.stat().st_size, sha256_of(path)]
    return found


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
