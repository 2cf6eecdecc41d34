"""Ctrl-C and SIGTERM: no wait is deaf to them.

Python's handlers run when the main thread comes back to Python, which may be never: it may wait in a compiler, or for
a device. So a thread of its own ends the process where the main thread does not, and the kernel at the second signal.
"""

import contextlib
import ctypes
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM)
GRACE = 2.0  # seconds that the main thread has to react

saving = threading.Event()  # while the first signal only asks a loop to stop; see `training.interrupt`
_reacted = threading.Event()


@contextlib.contextmanager
def leaving(say: Callable[[], str]) -> Iterator[None]:
    """Context in which Ctrl-C and SIGTERM raise KeyboardInterrupt, and end the process where that gets nowhere.

    Args:
      say: the last line, where the main thread does not react within `GRACE` seconds; the exit status is 130 then.

    It does nothing where SIGINT is ignored, as in a shell's background, or handled by others, or outside the main
    thread.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    _reacted.clear()
    old = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        restore(number, _leave)
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    wakeup = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(ours, say), name="signals", daemon=True).start()
    try:
        yield
    finally:
        left = _reacted.is_set()
        _reacted.set()
        signal.set_wakeup_fd(wakeup)
        theirs.close()
        if not left:  # else what is still to be done must not be deaf either
            for number, handler in old.items():
                signal.signal(number, handler)


def is_left_by(handler) -> bool:
    """Whether a handler is that of `leaving`."""
    return handler is _leave


def restore(number: int, handler) -> None:
    """Sets a handler that `signal.getsignal` or `signal.signal` gave."""
    signal.signal(number, handler)
    if is_left_by(handler):
        once(number)


def once(number: int) -> None:
    """Makes the kernel forget a signal's handler as it calls it: a second one ends the process, whatever it does.

    With glibc only; elsewhere a second signal waits for Python as the first does.
    """
    libc = ctypes.CDLL(None) if os.name == "posix" else None
    if hasattr(libc, "sysv_signal"):
        libc.signal.restype = ctypes.c_void_p
        libc.sysv_signal(number, ctypes.c_void_p(libc.signal(number, None)))


def _leave(number, frame):
    _reacted.set()
    for each in SIGNALS:
        signal.signal(each, signal.SIG_DFL)
    raise KeyboardInterrupt


def _watch(signals: socket.socket, say: Callable[[], str]) -> None:
    with signals:
        while number := signals.recv(1):
            if number[0] in SIGNALS:
                for each in SIGNALS:  # the kernel's, whatever Python knows: a second one may be of the other kind
                    ctypes.CDLL(None).signal(each, None)
                if not saving.is_set():
                    break
        else:
            return
    if not _reacted.wait(GRACE):
        print(say(), file=sys.stderr, flush=True)
        os._exit(130)
