import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fftnet_jax.data.windows import EvalWindows, MaskedWindows, Patterns, Recall, Subset, TokenWindows, _copy_runs

quick = settings(max_examples=60, deadline=None)
TOKENS = np.arange(100, 131, dtype=np.int32)

SOURCES = {
    "tokens": TokenWindows(TOKENS, 7, 3),
    "eval": EvalWindows(TOKENS, 7),
    "masked": MaskedWindows(EvalWindows(TOKENS, 7), 0.3, 999, 5),
    "patterns": Patterns(9, 12, 50, 0.5, 1),
    "recall": Recall(9, 16, 4, 3, 1),
    "subset": Subset(Recall(9, 16, 4, 3, 1), 2, 8),
}


@pytest.mark.parametrize("name", SOURCES)
def test_items_and_batches_agree(name):
    source = SOURCES[name]
    indices = np.array([len(source) - 1, 0, 2, 0])
    batch = source.batch(indices)
    assert {key: array.dtype for key, array in batch.items()} == {
        "inputs": np.int32,
        "targets": np.int32,
        "weights": np.float32,
    }
    for row, index in enumerate(indices):
        item = source[int(index)]
        for key, array in batch.items():
            assert item[key].ndim == 1
            np.testing.assert_array_equal(item[key], array[row])
    for index in (-1, len(source)):
        with pytest.raises(IndexError):
            source[index]


@quick
@given(size=st.integers(2, 60), length=st.integers(1, 20), stride=st.integers(1, 9))
def test_token_windows(size, length, stride):
    tokens = np.arange(size)
    if size < length + 1:
        with pytest.raises(ValueError, match=f"data.length={length} needs at least {length + 1}"):
            TokenWindows(tokens, length, stride)
        return
    source = TokenWindows(tokens, length, stride)
    starts = [s for s in range(0, size, stride) if s + length + 1 <= size]
    assert len(source) == len(starts)
    for item, start in zip((source[i] for i in range(len(source))), starts, strict=True):
        np.testing.assert_array_equal(item["inputs"], tokens[start : start + length])
        np.testing.assert_array_equal(item["targets"], tokens[start + 1 : start + length + 1])
        assert item["weights"].tolist() == [1] * length


@quick
@given(size=st.integers(2, 80), length=st.integers(1, 20))
def test_eval_windows_predict_each_token_once(size, length):
    tokens = np.arange(1000, 1000 + size)
    source = EvalWindows(tokens, length)
    items = [source[i] for i in range(len(source))]
    inputs, targets, weights = (np.concatenate([item[k] for item in items]) for k in ("inputs", "targets", "weights"))
    assert set(weights.tolist()) <= {0.0, 1.0}
    np.testing.assert_array_equal(targets[weights == 1], tokens[1:])
    np.testing.assert_array_equal(inputs[weights == 1], tokens[:-1])
    assert not inputs[weights == 0].any() and not targets[weights == 0].any()
    assert items[-1]["weights"].any() and len(inputs) == len(source) * length


def test_eval_windows_need_two_tokens(refused):
    assert "at least 2 tokens" in refused(EvalWindows, TOKENS[:1], 4)


@quick
@given(size=st.integers(2, 60), length=st.integers(1, 20), rate=st.floats(0.01, 0.99), fresh=st.booleans())
def test_masked_windows(size, length, rate, fresh):
    source = EvalWindows(np.arange(size), length)
    masked = MaskedWindows(source, rate, 777, seed=3)
    indices = np.arange(len(masked))
    plain = source.batch(indices)
    batch = masked.batch(indices, np.random.default_rng(0) if fresh else None)
    chosen = batch["weights"] == 1
    assert chosen.any(axis=1).all()  # at least one in each window
    assert not chosen[plain["weights"] == 0].any()
    np.testing.assert_array_equal(batch["inputs"], np.where(chosen, 777, plain["inputs"]))
    np.testing.assert_array_equal(batch["targets"][chosen], plain["inputs"][chosen])  # the token that stood there
    assert not batch["weights"][~chosen].any()


def test_masks_depend_on_seed_and_index_alone():
    def masks(seed, indices, rng=None):
        return MaskedWindows(TokenWindows(np.arange(200), 50), 0.3, 999, seed).batch(indices, rng)["weights"].tolist()

    assert masks(1, [3, 4]) == masks(1, [3, 4]) == masks(1, [4, 3])[::-1]
    assert masks(1, [3]) != masks(2, [3]) and masks(1, [3]) != masks(1, [4])
    rng = np.random.default_rng(1)
    assert masks(1, [3], rng) != masks(1, [3], rng)  # fresh ones with a generator


def test_mask_rate_is_met():
    source = MaskedWindows(TokenWindows(np.arange(2000), 100), 0.15, 9999, 0)
    assert source.batch(np.arange(1000))["weights"].mean() == pytest.approx(0.15, abs=0.005)


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
    rows = {c: is_row(Patterns(200, 63, 10_000, c, 7).batch(indices)) for c in (0.0, 0.1, 0.5)}
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
    source = Patterns(5, length, vocab_size, complexity, 0)
    row = is_row(source.batch(np.arange(5)))
    assert row.shape == (5, length + 1) and row.min() >= 0 and row.max() < vocab_size
    np.testing.assert_array_equal(row, is_row(source.batch(np.arange(5))))
    assert (
        is_row(Patterns(5, 40, vocab_size, complexity, 1).batch([0]))
        != is_row(Patterns(5, 40, vocab_size, complexity, 2).batch([0]))
    ).any()


@quick
@given(data=st.data(), length=st.integers(4, 64), num_values=st.integers(2, 9), seed=st.integers(0, 5))
def test_recall(data, length, num_values, seed):
    num_keys = data.draw(st.integers(1, length // 4))
    queries = data.draw(st.integers(1, length - length // 2))
    source = Recall(20, length, num_keys, num_values, seed, queries)
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
    batch = Recall(2000, 32, 4, 5, 0).batch(np.arange(2000))
    for column, low, count in ((batch["inputs"][:, -1], 0, 4), (batch["targets"][:, -1], 4, 5)):
        shares = np.bincount(column, minlength=low + count)[low:] / 2000
        np.testing.assert_allclose(shares, 1 / count, atol=0.05)
    first_keys = np.bincount(batch["inputs"][:, 0], minlength=4) / 2000
    np.testing.assert_allclose(first_keys, 1 / 4, atol=0.05)  # in any order


def test_recall_asks_the_same_sequences_less():
    many, one = (Recall(3, 32, 4, 5, 0, queries).batch(np.arange(3)) for queries in (16, 1))
    np.testing.assert_array_equal(many["inputs"], one["inputs"])
    assert (many["weights"].sum(), one["weights"].sum()) == (48, 3)


def test_recall_needs_room(refused):
    Recall(1, 16, 4, 2, 0)
    message = refused(Recall, 1, 16, 5, 2, 0)
    assert "data.num_keys must be at most data.length / 4 (4)" in message and "got 5" in message
    assert "data.num_queries must be at most half of data.length (8), got 9" in refused(Recall, 1, 16, 4, 2, 0, 9)
