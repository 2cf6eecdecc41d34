"""Batches from a source: endless and shuffled for training, in order and complete for evaluation."""

from collections.abc import Iterator

import numpy as np

from fftnet_jax.data.windows import Source

PREFETCH = 4  # batches made ahead, by one thread


def train_batches(source: Source, batch_size: int, seed: int, rows: slice = slice(None)) -> "grain.DatasetIterator":  # noqa: F821
    """Shuffled batches without end: dicts of arrays (B, …).

    Each epoch has its own order, and its own masks where the source masks. The order goes on across epochs, so a batch
    may hold the end of one and the start of the next, and a source may be smaller than a batch. `get_state()` and
    `set_state()` of the iterator resume at the very next batch, given the same arguments.

    Args:
      rows: of each batch, the ones to read; the others are some other process's.
    """

    import grain  # half a second, spent by those who train

    def read(indices, rng):
        if source.draws_anew:  # for whole batches, so that they don't depend on the number of processes
            return {name: array[rows] for name, array in source.batch(indices, rng).items()}
        return source.batch(indices[rows], rng)

    indices = grain.MapDataset.range(len(source)).seed(seed).shuffle().repeat()
    # Items one by one would cost a Python call each; a batch of indices is one fancy index into the tokens.
    batches = indices.batch(batch_size, drop_remainder=True).random_map(read)
    return iter(batches.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=PREFETCH)))


def eval_batches(source: Source, batch_size: int, rows: slice = slice(None)) -> Iterator[dict[str, np.ndarray]]:
    """Every item once, in order, as dicts of arrays (B, …); rows of zeros fill up the last batch.

    With `rows` only those of each batch.
    """
    for start in range(0, len(source), batch_size):
        wanted = np.arange(start, start + batch_size)[rows]
        indices = wanted[wanted < len(source)]
        # A batch of none has no shape: the first item stands in, and is cut off.
        batch = source.batch(indices) if len(indices) else {n: a[:0] for n, a in source.batch(wanted[:1] * 0).items()}
        missing = len(wanted) - len(indices)
        yield {name: np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1)) for name, array in batch.items()}
