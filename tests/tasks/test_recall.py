import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fftnet_jax.tasks.recall import RecallRows

quick = settings(max_examples=60, deadline=None)


@quick
@given(data=st.data(), length=st.integers(4, 64), num_values=st.integers(2, 9), seed=st.integers(0, 5))
def test_recall(data, length, num_values, seed):
    num_keys = data.draw(st.integers(1, length // 4))
    queries = data.draw(st.integers(1, length - length // 2))
    source = RecallRows(20, length, num_keys, num_values, seed, queries)
    assert source.vocab_size == num_keys + num_values
    batch = source.batch(np.arange(20))
    for inputs, targets, weights in zip(batch["inputs"], batch["targets"], batch["weights"], strict=True):
        pairs = inputs[: length // 4 * 2].reshape(-1, 2)
        value_of = dict(pairs)
        assert sorted(value_of) == list(range(num_keys))  # each key at least once
        assert all(value_of[key] == value for key, value in pairs)  # and always with the same value
        assert (pairs[:, 1] >= num_keys).all()
        assert inputs.max() < source.vocab_size
        asked = inputs[length // 4 * 2 :]
        assert asked.max() < num_keys  # nothing but keys after the pairs
        assert weights.tolist() == [0] * (length - queries) + [1] * queries
        assert [value_of[key] for key in inputs[-queries:]] == targets[-queries:].tolist()


def test_recall_asks_and_answers_evenly():
    batch = RecallRows(2000, 32, 4, 5, 0).batch(np.arange(2000))
    for column, low, count in ((batch["inputs"][:, -1], 0, 4), (batch["targets"][:, -1], 4, 5)):
        shares = np.bincount(column, minlength=low + count)[low:] / 2000
        np.testing.assert_allclose(shares, 1 / count, atol=0.05)
    first_keys = np.bincount(batch["inputs"][:, 0], minlength=4) / 2000
    np.testing.assert_allclose(first_keys, 1 / 4, atol=0.05)  # in any order


def test_recall_asks_the_same_sequences_less():
    many, one = (RecallRows(3, 32, 4, 5, 0, queries).batch(np.arange(3)) for queries in (16, 1))
    np.testing.assert_array_equal(many["inputs"], one["inputs"])
    assert (many["weights"].sum(), one["weights"].sum()) == (48, 3)


def test_recall_needs_room(refused):
    RecallRows(1, 16, 4, 2, 0)
    message = refused(RecallRows, 1, 16, 5, 2, 0)
    assert "data.num_keys must be at most data.length / 4 (4)" in message and "got 5" in message
    assert "data.num_queries must be at most half of data.length (8), got 9" in refused(RecallRows, 1, 16, 4, 2, 0, 9)
