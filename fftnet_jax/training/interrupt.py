"""Ctrl-C and SIGTERM ask the loop to stop after the step at hand; a second one stops at once."""

import os
import signal

from fftnet_jax import signals


class Interrupt:
    """Context in which, once it is armed, `requested` turns true on SIGINT or SIGTERM, and nothing dies mid-step."""

    def __init__(self):
        self.requested = False
        self._old = {}

    def __enter__(self):
        return self

    def arm(self) -> None:
        """From here on there is something to save. Before, as while the first step compiles, a signal just ends all."""
        if self._old:
            return
        try:
            self._old = {number: signal.signal(number, self._handle) for number in signals.SIGNALS}
        except ValueError:  # not the main thread: whoever is handles signals
            return
        self._in_program = any(map(signals.is_left_by, self._old.values()))
        if self._in_program:
            signals.saving.set()
            for number in signals.SIGNALS:
                signals.once(number)

    def __exit__(self, *exception):
        signals.saving.clear()
        for number, handler in self._old.items():
            signals.restore(number, handler)

    def _handle(self, number, frame):
        self.requested = True
        for each, handler in self._old.items():
            signal.signal(each, signal.SIG_DFL if self._in_program else handler)
        if self._in_program:  # `print` may be at work where the signal came
            os.write(2, b"\nstopping after this step; a second signal ends the program at once, without saving\n")
