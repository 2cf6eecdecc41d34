"""The progress bar, and a line for each validation."""

import sys

from tqdm import tqdm

from fftnet_jax.parallel.hosts import is_first
from fftnet_jax.training.callbacks.base import Callback, Report
from fftnet_jax.training.run import Run
from fftnet_jax.training.terminal import in_words


class Progress(Callback):
    def __init__(self, start: int, num_steps: int):
        # Without a terminal, a line now and then is enough.
        interval = 0.2 if sys.stderr.isatty() else 10.0
        self.bar = tqdm(
            total=num_steps,
            initial=start,
            unit="step",
            mininterval=interval,
            maxinterval=interval * 2,
            disable=not is_first() or start >= num_steps,
        )

    def after_step(self, run: Run, done: Report) -> None:
        speed = f", {run.clock.rate:,.0f} tokens/s" if run.clock.rate else ""
        self.bar.set_postfix_str(f"loss {done.metrics['loss']:.3f}{speed}", refresh=False)
        self.bar.update(done.step - self.bar.n)

    def report(self, run: Run, done: Report) -> None:
        if done.validation and is_first():
            line = (
                f"step {done.step}: training loss {done.metrics['loss']:.4f}, "
                f"validation {in_words(done.validation)}, {done.tokens_per_second:,.0f} tokens/s"
            )
            self.bar.write(line, file=sys.stderr)  # leaves the bar whole

    def after_run(self, run: Run, figures: dict) -> None:
        self.close()

    def close(self) -> None:
        self.bar.close()
