"""Batches from a source: endless and shuffled for training, in order and complete for evaluation."""

from collections.abc import Iterator

import grain
import numpy as np

from fftnet_jax.data.windows import Source

PREFETCH = 4  # batches made ahead, by one thread


def train_batches(source: Source, batch_size: int, seed: int) -> grain.DatasetIterator:
    """Shuffled batches without end: dicts of arrays (B, N).

    Each epoch has its own order, and its own masks where the source masks. The order goes on across epochs, so a batch
    may hold the end of one and the start of the next, and a source may be smaller than a batch. `get_state()` and
    `set_state()` of the iterator, or `grain.checkpoint`, resume at the very next batch, given the same arguments.
    """
    indices = grain.MapDataset.range(len(source)).seed(seed).shuffle().repeat()
    # Items one by one would cost a Python call each; a batch of indices is one fancy index into the tokens.
    batches = indices.batch(batch_size, drop_remainder=True).random_map(source.batch)
    return iter(batches.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=PREFETCH)))


def eval_batches(source: Source, batch_size: int) -> Iterator[dict[str, np.ndarray]]:
    """Every item once, in order, as dicts of arrays (B, N); rows of zero weight fill up the last batch."""
    for start in range(0, len(source), batch_size):
        indices = np.arange(start, min(start + batch_size, len(source)))
        batch = source.batch(indices)
        missing = batch_size - len(indices)
        yield {name: np.pad(array, ((0, missing), (0, 0))) for name, array in batch.items()}
