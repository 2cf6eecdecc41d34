"""What is said to the person who watches."""

import sys

from fftnet_jax.parallel.hosts import is_first


def say(text: str) -> None:
    """A line on standard error, by the first process; standard output is kept for the sample."""
    if is_first():
        print(text, file=sys.stderr, flush=True)


def in_words(metrics: dict[str, float]) -> str:
    """`loss 1.2345, accuracy 0.678`, and whatever else there is."""
    others = (f"{name} {value:.3f}" for name, value in metrics.items() if name != "loss")
    return ", ".join([f"loss {metrics['loss']:.4f}", *others])
