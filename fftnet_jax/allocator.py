"""glibc's memory allocator, told to keep what it has.

XLA's CPU asks for all temporaries of a program in one piece and frees it after each call. By default glibc gives such
a piece back to the system, which hands it out anew, page by page and zeroed: a tenth to a quarter of a train step.
"""

import ctypes
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -3, -4, -8  # of mallopt, glibc's malloc.h


def keep_freed_memory(keep: bool = True) -> bool:
    """Whether this process now keeps freed memory for its next allocations; False on systems other than Linux's glibc.

    For a whole program, before it starts a thread: memory that another thread's pool holds already is not reached.

    Args:
      keep: False goes back to what glibc arrives at by itself in a program with large arrays.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is None:
        return False
    values = {ARENA_MAX: 1, MMAP_MAX: 0, TRIM_THRESHOLD: -1}
    if not keep:
        values = {MMAP_MAX: 2**16, MMAP_THRESHOLD: 2**25, TRIM_THRESHOLD: 2**26}
    return all(mallopt(*pair) for pair in values.items())
