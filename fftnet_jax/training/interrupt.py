"""Ctrl-C and SIGTERM ask the loop to stop after the step at hand; a second one stops at once."""

import signal


class Interrupt:
    """Context in which `requested` turns true on SIGINT or SIGTERM instead of the program dying mid-step."""

    signals = (signal.SIGINT, signal.SIGTERM)

    def __init__(self):
        self.requested = False

    def __enter__(self):
        try:
            self._old = {number: signal.signal(number, self._handle) for number in self.signals}
        except ValueError:  # not the main thread: whoever is handles signals
            self._old = {}
        return self

    def __exit__(self, *exception):
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _handle(self, number, frame):
        self.requested = True
        for number, handler in self._old.items():
            signal.signal(number, handler)
