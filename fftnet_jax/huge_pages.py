"""Larger pages of memory, on Linux, for what XLA's CPU allocates anew in every train step."""

import contextlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path

TUNABLES, SETTING = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"  # glibc manual, "Memory Allocation Tunables"
MARK = "FFTNET_JAX_HUGE_PAGES"  # that the program was started anew: some systems take GLIBC_TUNABLES away
GRANTED = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def restart() -> None:
    """Starts the program anew, in the same process, so that its memory comes in pages of 2 MiB instead of 4 KiB.

    The kernel clears each page at its first use, which is some 10% of a train step on small ones. Many systems hand out
    large ones to those alone who ask, and glibc reads at the start only whether to ask. Does nothing where that would
    not help, where GLIBC_TUNABLES has the setting already (0 turns it off), under a debugger, or where `sys.argv` is
    not what the process was started with, as in a notebook. Call it first of all: what the program has done so far is
    lost.
    """
    started = sys.orig_argv[-len(sys.argv) :] == sys.argv and Path(sys.argv[0]).is_file()
    if started and sys.gettrace() is None and can_help(os.environ):
        with contextlib.suppress(OSError):  # no reason not to train
            os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment(os.environ))


def can_help(environ: Mapping[str, str]) -> bool:
    """Whether the C library can ask for large pages, is not told about them yet, and the system waits to be asked."""
    try:
        version = os.confstr("CS_GNU_LIBC_VERSION").split()[1]
        granted = GRANTED.read_text()
    except (AttributeError, IndexError, OSError, ValueError):  # not Linux, or another C library
        return False
    new = tuple(int(part) for part in version.split(".")[:2]) >= (2, 35)
    return new and "[madvise]" in granted and not (MARK in environ or SETTING in environ.get(TUNABLES, ""))


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` with the setting added, and a mark that it was."""
    others = environ.get(TUNABLES, "")
    return {**environ, TUNABLES: f"{others}:{SETTING}=1" if others else f"{SETTING}=1", MARK: "1"}
