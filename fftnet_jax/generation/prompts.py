"""Prompts from the command line, a file or standard input."""

import sys
from pathlib import Path

from fftnet_jax.errors import ConfigError


def read_prompts(texts: list[str] | None, file: str | None) -> list[str]:
    """The prompts given as texts and the one in a file; standard input for "-" or when none is given.

    Raises:
      ConfigError: a prompt is empty, or the file can't be read as UTF-8.
    """
    prompts = list(texts or [])
    if file is not None or not prompts:
        prompts.append(_read(file if file is not None else "-"))
    for prompt in prompts:
        if not prompt:
            raise ConfigError("--prompt must hold at least one character, got ''")
        if any("\ud800" <= character <= "\udfff" for character in prompt):  # what Python makes of stray bytes
            raise ConfigError(f"--prompt must be UTF-8, got {prompt!r}")
    return prompts


def _read(file: str) -> str:
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        text = data.decode("utf-8")
    except OSError as error:
        raise ConfigError(f"--prompt_file must be a readable file, got {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"--prompt_file must be UTF-8, and {file} is not at byte {error.start}") from error
    return text.removesuffix("\n")  # the one that editors and echo add
