import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fftnet_jax.tasks.patterns import PatternRows, _copy_runs

quick = settings(max_examples=60, deadline=None)


def is_row(batch):
    return np.concatenate([batch["inputs"], batch["targets"][:, -1:]], axis=1)


def copied_runs(row):
    """How many positions begin a pair of tokens that stands earlier in the row too."""
    seen, count = set(), 0
    for pair in zip(row, row[1:], strict=False):
        count += pair in seen
        seen.add(pair)
    return count


def test_patterns_copy_runs():
    indices = np.arange(200)
    rows = {c: is_row(PatternRows(200, 63, 10_000, c, 7).batch(indices)) for c in (0.0, 0.1, 0.5)}
    assert all(array.shape == (200, 64) and array.min() >= 0 and array.max() < 10_000 for array in rows.values())
    counts = {c: [copied_runs(row) for row in array] for c, array in rows.items()}
    assert max(counts[0.0]) == 0  # 10,000 tokens: no pair repeats by chance
    assert min(counts[0.1]) >= 1 and max(counts[0.1]) <= 10
    assert np.mean(counts[0.5]) > 2 * np.mean(counts[0.1])
    # One copy: 2 to 5 tokens are new where the row without copies had others, and half of the rows have a pair as well.
    changed = (rows[0.1] != rows[0.0]).sum(axis=1)
    assert set(changed) == {2, 3, 4, 5, 6, 7}
    immediate = np.mean([any((row[i : i + 2] == row[i + 2 : i + 4]).all() for i in range(61)) for row in rows[0.1]])
    assert 0.4 < immediate < 0.65


@pytest.mark.parametrize(
    "draws, wanted",
    [
        ([0.0, 0.0, 0.0, 0.0, 0.9], [0, 1, 0, 1, 4, 5, 6, 7, 8, 9]),
        ([0.99, 0.0, 0.0, 0.0, 0.9], [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]),
        ([0.0, 0.99, 0.0, 0.0, 0.9], [0, 1, 2, 3, 4, 5, 6, 7, 6, 7]),
        ([0.3, 0.0, 0.99, 0.0, 0.9], [0, 1, 2, 3, 4, 5, 6, 0, 1, 2]),
        ([0.0, 0.0, 0.99, 0.5, 0.4], [0, 1, 2, 3, 4, 3, 4, 7, 0, 1]),
    ],
)
def test_copied_runs_never_overlap_their_source(draws, wanted):
    rows = np.arange(10)[None].copy()
    _copy_runs(rows, np.array([draws]))
    assert rows[0].tolist() == wanted


@quick
@given(length=st.integers(1, 12), complexity=st.floats(0, 3), vocab_size=st.integers(2, 9))
def test_patterns_of_any_size(length, complexity, vocab_size):
    source = PatternRows(5, length, vocab_size, complexity, 0)
    row = is_row(source.batch(np.arange(5)))
    assert row.shape == (5, length + 1) and row.min() >= 0 and row.max() < vocab_size
    np.testing.assert_array_equal(row, is_row(source.batch(np.arange(5))))
    assert (
        is_row(PatternRows(5, 40, vocab_size, complexity, 1).batch([0]))
        != is_row(PatternRows(5, 40, vocab_size, complexity, 2).batch([0]))
    ).any()
