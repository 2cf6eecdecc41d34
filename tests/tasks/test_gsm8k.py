import dataclasses
import json
import math
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fftnet_jax.config import DataConfig
from fftnet_jax.data import (
    PackedProblems,
    Problem,
    ProblemRows,
    encode_problems,
    eval_batches,
    read_problems,
    split_problems,
    train_batches,
)
from fftnet_jax.tasks import gsm8k, load_dataset
from fftnet_jax.tokenizers import ByteTokenizer

SPLITS = ("train", "validation", "test")


class EndingTokenizer(ByteTokenizer):
    """Bytes and an end of sequence."""

    name = "ending"
    vocab_size = 257
    eos_id = 256

    def decode(self, ids):
        return super().decode([i for i in ids if i != self.eos_id])

    def to_dict(self):
        return {"kind": "ending"}


def problem(number, size=1):
    return Problem(f"What is {number}?" + " Please." * size, f"It is {number}.\n#### {number}")


def write_problems(folder, train, test):
    folder.mkdir(exist_ok=True)
    for name, problems in (("train", train), ("test", test)):
        lines = [json.dumps(dataclasses.asdict(p)) for p in problems]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(folder)


@pytest.fixture
def config(tmp_path):
    """Ten training and four test problems, of which 6, 2 and 3 are taken."""
    folder = write_problems(
        tmp_path / "gsm8k", [problem(n, n % 3) for n in range(10)], [problem(n, 0) for n in range(90, 94)]
    )
    sizes = {"num_problems": 6, "num_validation": 2, "num_test": 3, "length": 80}
    return DataConfig(source="gsm8k", folder=folder, tokenizer="byte", **sizes)


@pytest.fixture
def ending(monkeypatch):
    monkeypatch.setattr(gsm8k, "get_tokenizer", lambda name, text: EndingTokenizer())


def everything(source):
    return source.batch(np.arange(len(source)))


def numbers(source):
    return [int(p.answer.rpartition(" ")[2]) for p in source.problems]


def test_splits_are_apart_and_in_order(config):
    dataset = load_dataset(config)
    assert [numbers(getattr(dataset, name)) for name in SPLITS] == [[0, 1, 2, 3, 4, 5], [6, 7], [90, 91, 92]]
    assert not dataset.test_is_validation and dataset.vocab_size == 256
    dataset = load_dataset(dataclasses.replace(config, num_problems=0, num_test=0))
    assert [numbers(getattr(dataset, name)) for name in SPLITS] == [[*range(8)], [8, 9], [90, 91, 92, 93]]


@given(st.integers(2, 30), st.integers(1, 30), st.integers(0, 30))
def test_any_sizes_that_fit_share_no_problem(total, num_validation, num_problems):
    train, config = (
        [problem(n) for n in range(total)],
        DataConfig(num_problems=num_problems, num_validation=num_validation),
    )
    if max(num_problems, 1) + num_validation > total:
        return
    splits = split_problems(train, [problem(99)], config)
    assert splits["train"] + splits["validation"] == train[: len(splits["train"]) + num_validation]
    assert (
        len(splits["train"]) == (num_problems or total - num_validation) and len(splits["validation"]) == num_validation
    )


@pytest.mark.parametrize(
    "change, words",
    [
        ({"num_problems": 9}, ["data.num_problems", "data.num_validation", "10 training problems", "9 and 2"]),
        ({"num_problems": 0, "num_validation": 10}, ["data.num_validation", "10 training problems", "0 and 10"]),
        ({"num_test": 5}, ["data.num_test", "at most 4", "got 5"]),
    ],
)
def test_more_problems_than_there_are(config, change, words, refused):
    message = refused(load_dataset, dataclasses.replace(config, **change))
    for word in words:
        assert word in message


@pytest.mark.parametrize("eos", (False, True))
def test_a_row_is_one_problem_and_its_end(eos):
    problems = [problem(12), problem(3, 4)]
    tokenizer = EndingTokenizer() if eos else ByteTokenizer()
    source = ProblemRows(encode_problems(problems, tokenizer), 120)
    batch = everything(source)
    assert {name: (array.shape, array.dtype) for name, array in batch.items()} == {
        "inputs": ((2, 120), np.int32),
        "targets": ((2, 120), np.int32),
        "weights": ((2, 120), np.float32),
    }
    for row, p in enumerate(problems):
        text = f"Question: {p.question}\nAnswer: {p.answer}".encode()
        wanted = [*text, 256 if eos else ord("\n")]
        size = len(wanted) - 1
        assert source.lengths[row] == size == batch["weights"][row].sum()
        assert batch["inputs"][row].tolist() == wanted[:-1] + [0] * (120 - size)
        assert batch["targets"][row].tolist() == wanted[1:] + [0] * (120 - size)
        assert batch["weights"][row].tolist() == [1] * size + [0] * (120 - size)
    one = source[1]
    assert all(np.array_equal(one[name], batch[name][1]) for name in batch)


@pytest.mark.parametrize("packing", (False, True))
def test_loss_on_answers_counts_answers_and_ends_only(config, ending, packing):
    config = dataclasses.replace(config, loss_on="answer", packing=packing, stride=80)
    dataset = load_dataset(config)
    source = dataset.validation
    batch = everything(source)
    counted = batch["targets"][batch["weights"] > 0]
    wanted = [token for p in source.problems for token in (*f" {p.answer}".encode(), 256)]
    assert counted.tolist() == wanted
    assert dataset.characters["validation"] == len(wanted) - 2  # all but the ends
    everywhere = everything(load_dataset(dataclasses.replace(config, loss_on="all")).validation)
    assert np.array_equal(everywhere["inputs"], batch["inputs"]) and (everywhere["weights"] >= batch["weights"]).all()
    lengths = load_dataset(dataclasses.replace(config, loss_on="all")).validation.lengths
    assert np.array_equal(lengths, source.lengths) and np.array_equal(lengths, everywhere["weights"].sum(axis=1))


@given(length=st.integers(1, 100), loss_on=st.sampled_from(["all", "answer"]), packing=st.booleans(), eos=st.booleans())
def test_characters_are_those_of_the_counted_tokens(length, loss_on, packing, eos):
    problems = [problem(n, n) for n in range(4)]
    tokenizer = EndingTokenizer() if eos else ByteTokenizer()
    encoded = encode_problems(problems, tokenizer)
    source = (PackedProblems if packing else ProblemRows)(encoded, length, loss_on)
    batch = everything(source)
    config = DataConfig(length=length, loss_on=loss_on, packing=packing)
    counted = batch["targets"][batch["weights"] > 0]
    assert gsm8k.counted_characters(encoded, tokenizer, config) == (counted != 256).sum()
    assert (np.arange(length) < source.lengths[:, None])[batch["weights"] > 0].all()


@given(length=st.integers(1, 120))
def test_rows_are_cut_at_the_length(length):
    problems = [problem(n, 3 * n) for n in range(4)]
    encoded = encode_problems(problems, ByteTokenizer())
    whole, cut = everything(ProblemRows(encoded, 300, "answer")), ProblemRows(encoded, length, "answer")
    batch = everything(cut)
    for name in batch:
        inside = np.arange(length) < cut.lengths[:, None]
        assert np.array_equal(batch[name], np.where(inside, whole[name][:, :length], 0))
    assert cut.lengths.max() <= length and np.array_equal(cut.lengths, np.minimum(np.diff(encoded.starts) - 1, length))


def test_a_row_without_its_answer_weighs_nothing(config):
    source = load_dataset(dataclasses.replace(config, loss_on="answer", length=33)).train
    batch = everything(source)
    weights_R = batch["weights"].sum(axis=1)
    assert weights_R.min() == 0 < weights_R.max() and (source.lengths == 33).all() and batch["inputs"].all()


def test_a_length_that_cuts_every_answer_is_refused(config, refused):
    message = refused(load_dataset, dataclasses.replace(config, loss_on="answer", length=20))
    assert "data.length" in message and "data.loss_on" in message and "got 20" in message
    assert len(load_dataset(dataclasses.replace(config, length=20)).train) == 6


def test_packed_windows_are_those_of_one_stream(config):
    config = dataclasses.replace(config, packing=True, length=50, stride=7)
    dataset = load_dataset(config)
    stream = "".join(f"Question: {p.question}\nAnswer: {p.answer}\n" for p in dataset.train.problems).encode()
    assert bytes(dataset.train.tokens.tolist()) == stream
    assert len(dataset.train) == (len(stream) - 51) // 7 + 1 and (dataset.train.lengths == 50).all()
    assert bytes(dataset.train[3]["targets"].tolist()) == stream[22:72]
    held_out = dataset.validation
    batch = everything(held_out)
    assert batch["targets"][batch["weights"] > 0].tolist() == held_out.tokens[1:].tolist()
    assert held_out.lengths.sum() == len(held_out.tokens) - 1 == dataset.characters["validation"]


def test_packed_problems_that_fill_no_window(config, refused):
    assert "data.length=5000" in refused(load_dataset, dataclasses.replace(config, packing=True, length=5000))


@pytest.mark.parametrize("packing", (False, True))
def test_batches(config, packing):
    dataset = load_dataset(dataclasses.replace(config, packing=packing))
    assert next(train_batches(dataset.train, 4, 0))["inputs"].shape == (4, 80)
    last = list(eval_batches(dataset.test, 4))[-1]
    assert last["inputs"].shape == (4, 80) and not last["weights"][3].any() and last["weights"][0].any()


def test_characters_make_the_alphabet_of_both_files(config):
    dataset = load_dataset(dataclasses.replace(config, tokenizer="char", num_problems=1, num_validation=1, num_test=1))
    train, test = read_problems(config.folder)
    text = "".join(f"{p.prompt} {p.answer}" for p in train + test)
    assert dataset.tokenizer.alphabet == "".join(sorted(set(text))) and dataset.vocab_size == len(set(text))


def test_a_batch_of_texts_is_encoded_at_once(config, monkeypatch):
    class Batched(ByteTokenizer):
        def encode(self, text):
            raise AssertionError("one by one")

        def encode_batch(self, texts):
            return [list(text.encode()) for text in texts]

    plain = load_dataset(config)
    monkeypatch.setattr(gsm8k, "get_tokenizer", lambda name, text: Batched())
    assert np.array_equal(everything(load_dataset(config).test)["targets"], everything(plain.test)["targets"])


@pytest.mark.parametrize("eos", (False, True))
def test_reduced_vocabulary_keeps_the_tokens_of_both_files(config, monkeypatch, eos):
    if eos:
        monkeypatch.setattr(gsm8k, "get_tokenizer", lambda name, text: EndingTokenizer())
    config = dataclasses.replace(config, num_test=1, loss_on="answer")
    plain, dataset = (load_dataset(dataclasses.replace(config, reduce_vocabulary=r)) for r in (False, True))
    train, test = read_problems(config.folder)
    text = "".join(f"{p.prompt} {p.answer}" for p in train + test)
    kept = [*sorted(set(text.encode())), *([256] if eos else [])]
    assert dataset.tokenizer.kept.tolist() == kept
    assert dataset.vocab_size == len(kept) + 1 and dataset.fingerprint != plain.fingerprint
    for name in SPLITS:  # the same rows in other numbers
        wanted, batch = everything(getattr(plain, name)), everything(getattr(dataset, name))
        assert np.array_equal(batch["weights"], wanted["weights"])
        counted = wanted["weights"] > 0
        assert np.array_equal(dataset.tokenizer.kept[batch["targets"][counted]], wanted["targets"][counted])
        assert getattr(dataset, name).problems == getattr(plain, name).problems
    assert dataset.characters == plain.characters


def test_fingerprint_tells_data_apart(config, tmp_path):
    train, test = read_problems(config.folder)
    other = [dataclasses.replace(test[0], answer="It is 90!\n#### 90"), *test[1:]]
    changes = [
        {},
        {"folder": write_problems(tmp_path / "other", train, other)},
        {"num_problems": 5},
        {"num_validation": 1},
        {"num_test": 2},
        {"loss_on": "answer"},
        {"packing": True},
        {"tokenizer": "char"},
    ]
    prints = [load_dataset(dataclasses.replace(config, **change)).fingerprint for change in changes]
    assert len(set(prints)) == len(changes) and all(len(text) == 64 for text in prints)
    same = write_problems(tmp_path / "same", train, test)
    assert load_dataset(dataclasses.replace(config, folder=same, batch_size=3)).fingerprint == prints[0]


@pytest.mark.parametrize(
    "content, words",
    [
        (None, ["there is no", "test.jsonl"]),
        (b"", ["test.jsonl is empty"]),
        (b"\n \n", ["test.jsonl is empty"]),
        (b'{"question": "a", "answer": "b"}\n\n{"question": "a"\n', ["test.jsonl, line 3 is not JSON"]),
        (b'{"question": "a", "answer": "b"}\n{"question": "a"}', ["test.jsonl, line 2 has no answer"]),
        (b'{"question": 3, "answer": "b"}', ["test.jsonl, line 1 has no question"]),
        (b'["question", "answer"]', ["test.jsonl, line 1 has no question"]),
        (b'{"question": "\xff"}', ["UTF-8", "test.jsonl is not at byte 14"]),
        (b"[" * 100_000, ["test.jsonl, line 1 is not JSON"]),
    ],
)
def test_bad_files(config, content, words, refused):
    file = Path(config.folder) / "test.jsonl"
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    message = refused(load_dataset, config)
    for word in ["data.folder", *words]:
        assert word in message


def test_bad_folders(config, tmp_path, refused):
    assert "there is no folder" in refused(read_problems, str(tmp_path / "nowhere"))
    assert "there is no folder" in refused(read_problems, config.folder + "/train.jsonl")
    (Path(config.folder) / "train.jsonl").unlink()
    (Path(config.folder) / "train.jsonl").mkdir()
    assert "must be readable" in refused(read_problems, config.folder)


def test_a_line_separator_in_a_question_does_not_end_the_line(tmp_path):
    p = Problem("one\u2028two\x85three", "4\n#### 4")
    folder = write_problems(tmp_path / "odd", [p], [p])
    (tmp_path / "odd" / "test.jsonl").write_text(
        json.dumps(dataclasses.asdict(p), ensure_ascii=False), encoding="utf-8"
    )
    assert read_problems(folder) == ([p], [p])


def test_the_hub(config, monkeypatch, refused):
    asked = []

    def load(*args):
        asked.append(args)
        return {name: [{"question": name, "answer": "1\n#### 1"}] * 2 for name in ("train", "test")}

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load))
    assert read_problems() == ([Problem("train", "1\n#### 1")] * 2, [Problem("test", "1\n#### 1")] * 2)
    assert asked == [("openai/gsm8k", "main")]

    def fail(*args):
        raise ConnectionError("Couldn't reach\nthe hub")

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=fail))
    message = refused(load_dataset, dataclasses.replace(config, folder=""))
    assert "data.source 'gsm8k'" in message and "ConnectionError" in message and "data.folder" in message


def test_encoder(config, refused):
    dataset = load_dataset(config, "encoder")
    batch = everything(dataset.validation)
    assert (batch["inputs"] == 256).any() and dataset.vocab_size == 257 and dataset.characters is None
    message = refused(load_dataset, dataclasses.replace(config, loss_on="answer"), "encoder")
    assert "data.loss_on" in message and "model.family" in message


def test_a_text_file_replaces_the_problems(config, tmp_path):
    (tmp_path / "text.txt").write_text("hello " * 100)
    dataset = load_dataset(dataclasses.replace(config, text_file=str(tmp_path / "text.txt"), length=8))
    assert not isinstance(dataset.train, ProblemRows) and dataset.characters["test"] == 29


def test_the_real_problems():
    folder = Path(__file__).parents[3] / "shared" / "data" / "gsm8k"
    if not folder.is_dir():
        pytest.skip("no copy of GSM8K beside the repository")
    dataset = load_dataset(
        DataConfig(source="gsm8k", folder=str(folder), tokenizer="tiktoken:cl100k_base", num_problems=200)
    )
    assert [len(getattr(dataset, name)) for name in SPLITS] == [200, 200, 1319]
    rows = everything(dataset.validation)
    for row, p in enumerate(dataset.validation.problems):
        ids = [*dataset.tokenizer.encode(f"{p.prompt} {p.answer}"), dataset.tokenizer.eos_id]
        size = min(len(ids) - 1, 256)  # the parts apart are the same tokens as the whole
        assert rows["targets"][row, :size].tolist() == ids[1:257] and math.isclose(rows["weights"][row].sum(), size)
