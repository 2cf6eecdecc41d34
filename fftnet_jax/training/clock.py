"""How fast a run trains, pauses left out."""

import contextlib
import time
from collections.abc import Iterator


class Clock:
    """Counts from the moment it is made; `rate` is the speed that was measured last, in tokens per second."""

    def __init__(self, step: int):
        self._time, self._step, self._paused, self.rate = time.monotonic(), step, 0.0, 0.0

    def speed(self, step: int, tokens_per_step: int) -> float:
        """Tokens per second of training since the last call, up to a step."""
        seconds = time.monotonic() - self._time - self._paused
        tokens = (step - self._step) * tokens_per_step
        self._time, self._step, self._paused = time.monotonic(), step, 0.0
        self.rate = tokens / max(seconds, 1e-9)
        return self.rate

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Context whose time does not count as training: evaluation, pictures, checkpoints."""
        start = time.monotonic()
        yield
        self._paused += time.monotonic() - start
