"""Chunks of logits that suit a CPU."""

from functools import partial

from fftnet_jax.ops.chunked_sums import chunked
from fftnet_jax.ops.cross_entropy import linear_sums

# Fewer rows add to the weight's gradient too often, and more of them only cost memory
# (`python -m benchmarks.loss --only "rows at a time"`).
ROWS = 512
# Where rows of logits begin within a cache line, products of them are slower: by a tenth on an AMD EPYC, 7% of original
# B's step (2026-11-26), by nothing on an Intel Xeon.
ALIGNED = 16

linear_sums.implements("cpu")(partial(chunked, chunk=ROWS, aligned=ALIGNED))
