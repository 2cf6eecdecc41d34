"""Timings, `python -m benchmarks.NAME`; studies of quality are in `studies`, what a run survives in `reliability`."""

from pathlib import Path

# `python -m benchmarks.quality` and its like keep their old names.
__path__ += [str(Path(__file__).parents[1] / name) for name in ("studies", "reliability")]
