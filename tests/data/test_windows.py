import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fftnet_jax.data.windows import EvalWindows, Subset, TokenWindows
from fftnet_jax.tasks.masked_tokens import MaskedWindows
from fftnet_jax.tasks.patterns import PatternRows
from fftnet_jax.tasks.recall import RecallRows

quick = settings(max_examples=60, deadline=None)
TOKENS = np.arange(100, 131, dtype=np.int32)

SOURCES = {
    "tokens": TokenWindows(TOKENS, 7, 3),
    "eval": EvalWindows(TOKENS, 7),
    "masked": MaskedWindows(EvalWindows(TOKENS, 7), 0.3, 999, 5),
    "patterns": PatternRows(9, 12, 50, 0.5, 1),
    "recall": RecallRows(9, 16, 4, 3, 1),
    "subset": Subset(RecallRows(9, 16, 4, 3, 1), 2, 8),
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
