import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fftnet_jax import tokenizers
from fftnet_jax.config import DataConfig
from fftnet_jax.data.splits import split_bounds
from fftnet_jax.tasks import language_modelling, load_dataset
from fftnet_jax.tasks.masked_tokens import MaskedWindows

TEXT = "".join(chr(0x4E00 + i) for i in range(1000))  # every character once: where a piece is from can't be mistaken
SPLITS = ("train", "validation", "test")


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return DataConfig(text_file=str(path), length=8, split=(0.8, 0.1, 0.1))


def tokens_seen(source):
    batch = source.batch(np.arange(len(source)))
    return set(batch["targets"][batch["weights"] > 0].tolist()) | set(batch["inputs"][batch["weights"] > 0].tolist())


@pytest.mark.parametrize("kind, per_character", (("char", 1), ("byte", 3)))
def test_splits_are_contiguous_and_apart(config, kind, per_character):
    dataset = load_dataset(dataclasses.replace(config, tokenizer=kind))
    assert not dataset.test_is_validation
    pieces = [dataset.tokenizer.decode(getattr(dataset, name).tokens) for name in SPLITS]
    assert pieces == [TEXT[:800], TEXT[800:900], TEXT[900:]]
    assert [len(getattr(dataset, name).tokens) for name in SPLITS] == [per_character * n for n in (800, 100, 100)]
    if kind == "char":
        seen = [tokens_seen(getattr(dataset, name)) for name in SPLITS]
        assert [len(s) for s in seen] == [800, 100, 100] and not seen[0] & seen[1] and not (seen[0] | seen[1]) & seen[2]
        assert dataset.characters == {"train": 799, "validation": 99, "test": 99} and dataset.vocab_size == 1000


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_split_bounds_cover_everything_once(data):
    shares = data.draw(st.sampled_from([(0.9, 0.1), (0.9, 0.05, 0.05), (0.7, 0.2, 0.1), (1 / 3, 1 / 3, 1 / 3)]))
    size = data.draw(st.integers(0, 10**7))
    bounds = split_bounds(shares, size)
    assert bounds[0] == 0 and bounds[-1] == size and bounds == sorted(bounds) and len(bounds) == len(shares) + 1
    assert bounds[1] == int(shares[0] * size)


@pytest.mark.parametrize("split", ((0.9, 0.1), (0.9, 0.1, 0.0)))
@pytest.mark.parametrize("family", ("decoder", "encoder"))
def test_without_a_test_share_test_is_validation(config, split, family):
    dataset = load_dataset(dataclasses.replace(config, split=split), family)
    assert dataset.test_is_validation and dataset.test is dataset.validation
    if family == "decoder":
        assert dataset.characters == {"train": 899, "validation": 99, "test": 99}


def test_tinyshakespeare_splits_where_others_split_it(tinyshakespeare, tmp_path):
    path = tmp_path / "tiny.txt"
    path.write_bytes(tinyshakespeare)
    dataset = load_dataset(DataConfig(text_file=str(path), split=(0.9, 0.1)))
    assert dataset.vocab_size == 65
    assert len(dataset.train.tokens) == int(0.9 * 1115394) == 1003854
    assert dataset.characters["validation"] == 1115394 - 1003854 - 1


def test_encoder_masks_with_an_id_of_its_own(config):
    plain, dataset = load_dataset(config), load_dataset(config, "encoder")
    assert dataset.vocab_size == plain.vocab_size + 1 == dataset.tokenizer.vocab_size + 1
    assert dataset.characters is None and dataset.fingerprint == plain.fingerprint
    for name in SPLITS:
        source = getattr(dataset, name)
        batch = source.batch(np.arange(len(source)))
        assert isinstance(source, MaskedWindows) and (batch["inputs"] == plain.vocab_size).any()
        assert batch["targets"].max() < plain.vocab_size
    again = load_dataset(config, "encoder", seed=1).validation.batch([0])
    assert not np.array_equal(again["weights"], dataset.validation.batch([0])["weights"])


@pytest.mark.parametrize(
    "text, split, wanted",
    [
        ("x" * 13, (0.98, 0.01, 0.01), "the training split has 12 tokens, data.length=64 needs at least 65"),
        ("x" * 71, (0.91, 0.05, 0.04), "the training split has 64 tokens, data.length=64 needs at least 65"),
        ("x" * 80, (0.98, 0.01, 0.01), "the validation split of data.split (0.98, 0.01, 0.01) has 1 tokens"),
        ("x" * 100, (0.9, 0.09, 0.01), "the test split of data.split (0.9, 0.09, 0.01) has 1 tokens"),
    ],
)
def test_too_little_text(text, split, wanted, tmp_path, refused):
    path = tmp_path / "short.txt"
    path.write_text(text)
    message = refused(load_dataset, DataConfig(text_file=str(path), length=64, split=split))
    assert message.startswith("data.text_file is too short: ") and wanted in message


def test_just_enough_text(tmp_path):
    path = tmp_path / "short.txt"
    path.write_text("ab" * 35)  # 65, 2 and 3 characters
    dataset = load_dataset(DataConfig(text_file=str(path), length=64, split=(65.2 / 70, 2 / 70, 2.8 / 70)))
    assert [len(getattr(dataset, name).tokens) for name in SPLITS] == [65, 2, 3]
    assert len(dataset.train) == 1


@pytest.mark.parametrize("task", ("patterns", "recall"))
def test_synthetic_splits(task):
    sizes = {"num_samples": 40, "length": 32, "num_keys": 4, "num_values": 5, "vocab_size": 30}
    config = DataConfig(source=task, split=(0.5, 0.3, 0.2), **sizes)
    dataset = load_dataset(config)
    assert [len(getattr(dataset, name)) for name in SPLITS] == [20, 12, 8]
    assert dataset.tokenizer is None and dataset.characters is None
    assert dataset.vocab_size == (30 if task == "patterns" else 9)
    rows = [row.tobytes() for name in SPLITS for row in getattr(dataset, name).batch(np.arange(8))["inputs"]]
    assert len(set(rows)) == len(rows)
    with pytest.raises(IndexError):
        dataset.train[20]
    other = load_dataset(config, seed=1)
    assert not np.array_equal(other.train[0]["inputs"], dataset.train[0]["inputs"])


def test_synthetic_encoder_and_two_shares():
    dataset = load_dataset(DataConfig(source="patterns", num_samples=10, split=(0.8, 0.2)), "encoder")
    assert dataset.vocab_size == 65 and dataset.test_is_validation and len(dataset.test) == 2


def test_too_few_samples(refused):
    message = refused(load_dataset, DataConfig(source="patterns", num_samples=10))
    assert "data.num_samples" in message and "got 10" in message and "validation" in message


def test_fingerprint_tells_data_apart(config, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text(TEXT[::-1], encoding="utf-8")  # the same alphabet
    tasks = {"source": "recall", "text_file": "", "num_samples": 100, "length": 128}
    changes = [
        {},
        {"text_file": str(other)},
        {"tokenizer": "byte"},
        {"split": (0.8, 0.2)},
        tasks,
        {**tasks, "num_keys": 3},
        {**tasks, "source": "patterns"},
        {**tasks, "source": "patterns", "pattern_complexity": 0.7},
    ]
    prints = [load_dataset(dataclasses.replace(config, **change)).fingerprint for change in changes]
    assert len(set(prints)) == len(changes) and all(len(text) == 64 for text in prints)
    assert prints[4] != load_dataset(dataclasses.replace(config, **tasks), seed=1).fingerprint
    assert prints[0] == load_dataset(dataclasses.replace(config, length=9, batch_size=3)).fingerprint


class CountingTokenizer(tokenizers.ByteTokenizer):
    name = "counting"
    calls = 0

    def encode_array(self, text):
        type(self).calls += 1
        return super().encode_array(text)

    def to_dict(self):
        return {"kind": "counting"}


@pytest.mark.parametrize("damage", ("cut", "flipped", "empty", "other"))
def test_slow_tokenizers_are_cached(config, cache, monkeypatch, damage):
    monkeypatch.setattr(language_modelling, "get_tokenizer", lambda name, text: CountingTokenizer())
    CountingTokenizer.calls = 0
    first = load_dataset(config)
    assert CountingTokenizer.calls == 3 and len(list((cache / "tokens").iterdir())) == 3
    again = load_dataset(config)
    assert CountingTokenizer.calls == 3 and isinstance(again.train.tokens, np.memmap)
    np.testing.assert_array_equal(again.train.tokens, first.train.tokens)
    assert type(again.train[3]["inputs"]) is np.ndarray
    del again
    for path in (cache / "tokens").iterdir():
        data = path.read_bytes()
        if damage == "other":
            np.save(path, np.zeros(()))
        else:
            bad = {"cut": data[:-5], "flipped": data[:-1] + bytes([data[-1] ^ 1]), "empty": b""}[damage]
            path.unlink()
            path.write_bytes(bad)
    rebuilt = load_dataset(config)
    assert CountingTokenizer.calls == 6
    np.testing.assert_array_equal(rebuilt.train.tokens, first.train.tokens)
    load_dataset(config)
    assert CountingTokenizer.calls == 6


def test_cache_that_cannot_be_written(config, cache, monkeypatch):
    monkeypatch.setattr(language_modelling, "get_tokenizer", lambda name, text: CountingTokenizer())
    cache.write_text("a file where the folder should be")
    assert len(load_dataset(config).train.tokens) == 2400


def test_quick_tokenizers_leave_no_cache(config, cache):
    load_dataset(config)
    assert not cache.exists()
