"""The command lines here and in studies and reliability: bad input is one line and exit status 2, as in train.py."""

import argparse
import re
import sys
from collections.abc import Callable

from fftnet_jax.config import Arguments
from fftnet_jax.config.command_line import run_command


def parser(doc: str) -> Arguments:
    """A parser whose `--help` is the module's docstring."""
    return Arguments(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)


def count(text: str) -> int:
    """A whole number of at least 1, as the type of an argument."""
    return _number(text, int, "a whole number of at least 1", lambda value: 1 <= value < 2**31)


def rate(text: str) -> float:
    """A finite number above 0, as the type of an argument."""
    return _number(text, float, "a finite number above 0", lambda value: 0 < value < float("inf"))


def pattern(text: str) -> str:
    """A regular expression, as the type of an argument."""
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"must be a regular expression ({error}), got {text!r}") from None
    return text


def run(main: Callable[[list[str]], int | None], argv: list[str] | None = None, stopped: str = "stopped") -> int:
    """The exit status of `main`; `stopped` is what Ctrl-C makes it say."""
    return run_command(lambda: main(sys.argv[1:] if argv is None else argv) or 0, stopped)


def _number(text, kind, wanted, good):
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not good(value):
        raise argparse.ArgumentTypeError(f"must be {wanted}, got {text!r}")
    return value
