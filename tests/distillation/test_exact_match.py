import json
import string

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fftnet_jax.config import ModelConfig
from fftnet_jax.data import Problem
from fftnet_jax.distillation import exact_match
from fftnet_jax.distillation.exact_match import evaluate_exact_match, extract_answer, few_shot_prompt, is_correct, main
from fftnet_jax.errors import ConfigError
from fftnet_jax.generation import Sampling, generate
from fftnet_jax.models import build_model
from fftnet_jax.tokenizers import ByteTokenizer

PROBLEMS = [Problem(f"What is {n} more than {n}?", f"{n} + {n} = {2 * n}.\n#### {2 * n}") for n in (3, 40, 600, 5, 7)]


class EndingTokenizer(ByteTokenizer):
    """Bytes and an end of sequence."""

    vocab_size = 257
    eos_id = 256


def answering(texts, eos=True, calls=None):
    """A model that writes `texts[prompt]`, an end of sequence, and then nonsense."""

    def generate_batch(prompts, max_new_tokens):
        rows = [[*texts[bytes(ids).decode()].encode(), *([256] if eos else [])] for ids in prompts]
        for step in range(max_new_tokens):
            if calls is not None:
                calls.append(len(prompts))
            yield np.array([row[step] if step < len(row) else ord("9") for row in rows])

    return generate_batch


@given(
    number=st.integers(-(10**12), 10**12),
    style=st.sampled_from(["{}", "{:,}", " {:,} ", "{}.", "{:,}.00", "{}.0.", "  {:,}.\n", "{} dollars", "{}\nso 8"]),
    before=st.sampled_from(["", "1 + 1 = <<1+1=2>>2\n", "#### 77\nno, ", "\n\n"]),
)
def test_spellings_of_whole_numbers(number, style, before):
    assert extract_answer(f"{before}####{style.format(number)}") == str(number)


@given(st.integers(0, 10**9))
def test_money_and_signs(number):
    plain, negative = str(number), f"-{number}" if number else "0"
    for text in ("${}", "+{}", "+ {}", "$ {:,}.", "$+{}", "000{}"):
        assert extract_answer("#### " + text.format(number)) == plain
    for text in ("-{}", "-${}", "$-{}", "- {}", "-{:,}.0", "-0{}"):
        assert extract_answer("#### " + text.format(number)) == negative


@given(st.decimals(-1000, 1000, places=3))
def test_decimals(number):
    found = extract_answer(f"#### {number}")
    assert float(found) == float(number) and found == extract_answer(f"#### {number}00.")
    assert not found.endswith("0") or "." not in found


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("", None),
        ("42", None),
        ("### 42", None),
        ("####", None),
        ("#### none", None),
        ("#### none\n42", None),
        ("#### 1\n####", None),
        ("####\n42", "42"),
        ("#### .50", "0.5"),
        ("#### 3/4", "3/4"),
        ("##### 5", "5"),
        ("#### x = 1,5, or 6", "15"),
        ("#### ٣", None),
        ("#### -0", "0"),
        ("#### -0.0", "0"),
        ("#### 0.05", "0.05"),
        ("#### " + "9" * 5000, "9" * 5000),
    ],
)
def test_odd_answers(text, wanted):
    assert extract_answer(text) == wanted


@given(st.text(alphabet=string.digits + "#$+-., \n/x"))
def test_any_text_gives_one_spelling(text):
    found = extract_answer("####" + text)
    assert found is None or extract_answer(f"#### {found}") == found


@pytest.mark.parametrize(
    "generated, right",
    [("#### 1,050", True), (" so $1050.\n#### $1050.00", True), ("1050", False), ("#### 105", False), ("", False)],
)
def test_is_correct(generated, right):
    assert is_correct(generated, "It is 1050.\n#### 1050") is right


def test_nothing_equals_nothing_is_not_correct():
    assert not is_correct("no idea", "no answer")


@pytest.mark.parametrize("batch_size", (1, 2, 5, 8))
@pytest.mark.parametrize("eos", (False, True))
def test_right_answers_are_counted_and_wrong_ones_are_not(batch_size, eos, tmp_path):
    texts = {p.prompt: f" {p.answer}" + ("" if eos else "\n") for p in PROBLEMS}
    texts[PROBLEMS[3].prompt] = " I guess.\n#### 11" + ("" if eos else "\n")
    tokenizer = EndingTokenizer() if eos else ByteTokenizer()
    sizes = {"max_new_tokens": 100, "batch_size": batch_size, "out_file": tmp_path / "new" / "answers.jsonl"}
    found = evaluate_exact_match(answering(texts, eos), tokenizer, PROBLEMS, **sizes)
    assert found == {"correct": 4, "total": 5, "exact_match": 0.8}
    rows = [json.loads(line) for line in sizes["out_file"].read_text().splitlines()]
    assert [row["correct"] for row in rows] == [True, True, True, False, True]
    assert rows[3] == {
        "question": "What is 5 more than 5?",
        "answer": "5 + 5 = 10.\n#### 10",
        "generated": " I guess.\n#### 11",
        "predicted": "11",
        "reference": "10",
        "correct": False,
    }
    assert [row["generated"] for row in rows if row["correct"]] == [
        f" {p.answer}" for p in PROBLEMS if p.question[8] != "5"
    ]


def test_a_batch_ends_with_its_last_answer_and_has_one_shape():
    texts, calls = {p.prompt: f" {p.answer}" for p in PROBLEMS}, []
    evaluate_exact_match(answering(texts, calls=calls), EndingTokenizer(), PROBLEMS, max_new_tokens=500, batch_size=2)
    longest = [max(len(texts[p.prompt]) + 1 for p in PROBLEMS[start : start + 2]) for start in (0, 2, 4)]
    assert calls == [2] * sum(longest)
    calls.clear()
    texts = {prompt: text + "\n" for prompt, text in texts.items()}
    evaluate_exact_match(answering(texts, False, calls), ByteTokenizer(), PROBLEMS, max_new_tokens=500, batch_size=9)
    assert calls == [5] * 32  # the longest has 25 tokens, and the text is looked at each 16


@pytest.mark.parametrize("more", ("\n\nQuestion: What is 1?\nAnswer: 1\n#### 1\n", "\nThat is,\n#### 2\n"))
def test_what_a_model_writes_after_its_answer_does_not_count(more):
    texts = {p.prompt: f" {p.answer}{more}" for p in PROBLEMS}
    found = evaluate_exact_match(answering(texts), EndingTokenizer(), PROBLEMS, max_new_tokens=100, batch_size=5)
    assert found["correct"] == 5


def test_an_answer_to_another_question_does_not_count(tmp_path):
    texts = {p.prompt: f" Hm.\n\nQuestion: And?\nAnswer: {p.answer}" for p in PROBLEMS}
    out = tmp_path / "out.jsonl"
    sizes = {"max_new_tokens": 100, "batch_size": 5, "out_file": out}
    assert evaluate_exact_match(answering(texts), EndingTokenizer(), PROBLEMS, **sizes)["correct"] == 0
    assert json.loads(out.read_text().splitlines()[0])["generated"] == " Hm."


def test_an_answer_cut_short_is_wrong():
    texts = {p.prompt: f" {p.answer}" for p in PROBLEMS[:1]}
    size = len(texts[PROBLEMS[0].prompt])
    for most, correct in ((size, 1), (size - 1, 0)):
        found = evaluate_exact_match(
            answering(texts), EndingTokenizer(), PROBLEMS[:1], max_new_tokens=most, batch_size=1
        )
        assert found["correct"] == correct


def test_other_ends_and_outputs_that_are_no_token():
    def generate_batch(prompts, max_new_tokens):
        for token in (999, *b" #### 6", 500, *b"1"):
            yield np.full(len(prompts), token)

    def run(eos_ids):
        sizes = {"max_new_tokens": 9, "batch_size": 1, "eos_ids": eos_ids}
        return evaluate_exact_match(generate_batch, EndingTokenizer(), PROBLEMS[:1], **sizes)

    assert run((500,))["correct"] == 1 and run(())["correct"] == 0  # 6 and 61


def test_shots_come_before_the_question():
    seen = []

    def generate_batch(prompts, max_new_tokens):
        seen.extend(bytes(ids).decode() for ids in prompts)
        yield np.full(len(prompts), 256)

    prompt = few_shot_prompt(PROBLEMS[1:3])
    sizes = {"max_new_tokens": 1, "batch_size": 1, "prompt": prompt}
    evaluate_exact_match(generate_batch, EndingTokenizer(), PROBLEMS[:1], **sizes)
    first, second, last = seen[0].split("\n\n")
    assert first == "Question: What is 40 more than 40?\nAnswer: 40 + 40 = 80.\n#### 80"
    assert second.endswith("#### 1200") and last == "Question: What is 3 more than 3?\nAnswer:"


def test_no_problems():
    with pytest.raises(ConfigError, match="at least one problem"):
        evaluate_exact_match(answering({}), ByteTokenizer(), [])


def test_a_decoder_answers_as_it_would_problem_by_problem(tmp_path):
    model = build_model(ModelConfig(vocab_size=257, width=8, num_layers=1, ffn_width=8, max_length=64, filter_modes=2))
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 1), jnp.int32))["params"]
    params = jax.tree.map(lambda p: 3 * p, params)
    greedy = lambda prompts, most: generate(model, params, prompts, most, Sampling(0.0))  # noqa: E731
    out, tokenizer = tmp_path / "answers.jsonl", EndingTokenizer()
    sizes = {"max_new_tokens": 20, "batch_size": 3, "out_file": out}
    found = evaluate_exact_match(greedy, tokenizer, PROBLEMS, **sizes)
    assert found["total"] == 5
    for line, problem in zip(out.read_text().splitlines(), PROBLEMS, strict=True):
        ids = [int(step[0]) for step in greedy([tokenizer.encode(problem.prompt)], 20)]
        ids = ids[: ids.index(256)] if 256 in ids else ids
        text = tokenizer.decode(ids)
        assert json.loads(line)["generated"] == text


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """GSM8K with 203 training and 4 test problems."""
    folder = tmp_path_factory.mktemp("gsm8k")
    for name, count in (("train", 203), ("test", 4)):
        rows = [{"question": f"{name} {n}?", "answer": f"{n}.\n#### {n}"} for n in range(count)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def student(folder, tiny, tmp_path_factory):
    """A run of two steps on `folder`, with 3 problems held out."""
    from fftnet_jax.training import train

    workdir = tmp_path_factory.mktemp("student") / "run"
    sizes = ["num_problems=6", "num_validation=3", "length=64", "tokenizer=byte", "text_file=", "source=gsm8k"]
    fields = [f"data.{size}" for size in (*sizes, f"folder={folder}")]
    train(tiny(*fields, "training.num_steps=2", "training.warmup_steps=1"), workdir)
    return workdir


@pytest.mark.parametrize(
    "split, wanted", [("test", [f"test {n}?" for n in range(4)]), ("validation", [f"train {n}?" for n in (6, 7, 8)])]
)
def test_command(student, tmp_path, capsys, split, wanted):
    out = tmp_path / "new" / "answers.jsonl"
    argv = ["--workdir", str(student), "--split", split, "--max_new_tokens", "5", "--batch_size", "2"]
    assert main([*argv, "--shots", "2", "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{split}: exact match 0.0000, 0 of {len(wanted)} problems correct\n"
    assert f"{len(wanted)} of {len(wanted)} prompts are longer than the model's 64 tokens" in printed.err
    assert [json.loads(line)["question"] for line in out.read_text().splitlines()] == wanted
    assert main([*argv, "--num_problems", "1"]) == 0
    assert "0 of 1 problems" in capsys.readouterr().out


def test_command_of_a_teacher(folder, monkeypatch, capsys):
    """The teacher's own ends count, and its problems are those of the folder."""
    model = type("Model", (), {"config": type("Config", (), {"max_length": 99, "eos_ids": (255,)})()})()
    asked = []

    def load(which, dtype):
        asked.append((which, dtype))
        return model, "params", ByteTokenizer()

    def fake(model_, params, prompts, most, how):
        assert model_ is model and params == "params" and how == Sampling(0.0)
        assert all(
            bytes(ids).startswith(b"Question: train 0?\nAnswer: 0.\n#### 0\n\nQuestion: test ") for ids in prompts
        )
        for place in range(most):
            yield np.array(
                [(*b" #### ", int(bytes(ids).split(b"?")[-2].split()[-1]) + 48, 255, 49)[place] for ids in prompts]
            )

    monkeypatch.setattr(exact_match, "load_teacher", load)
    monkeypatch.setattr(exact_match, "generate", fake)
    argv = ["--teacher", "big", "--dtype", "bfloat16", "--folder", str(folder), "--shots", "1", "--max_new_tokens", "9"]
    assert main(argv) == 0
    assert asked == [("big", "bfloat16")]
    assert capsys.readouterr().out == "test: exact match 1.0000, 4 of 4 problems correct\n"


@pytest.mark.parametrize(
    "flags, words",
    [
        (
            ["--workdir", "RUN", "--split", "validation", "--num_problems", "4"],
            ["--num_problems", "at most 3", "got 4"],
        ),
        (["--workdir", "RUN", "--shots", "7"], ["--shots", "at most 6", "got 7"]),
        (["--workdir", "RUN", "--shots", "-1"], ["--shots", "-1"]),
        (["--workdir", "RUN", "--batch_size", "0"], ["--batch_size", "0"]),
        (["--workdir", "RUN", "--folder", "nowhere"], ["data.folder", "nowhere"]),
        (["--workdir", "RUN", "--out", "RUN"], ["--out", "RUN"]),
        (["--workdir", "RUN", "--teacher", "x"], ["--teacher", "--workdir"]),
        (["--workdir", "nowhere"], ["--workdir", "nowhere"]),
        ([], ["--workdir", "--teacher"]),
    ],
)
def test_bad_input_is_one_line(student, capsys, flags, words):
    assert main([str(student) if flag == "RUN" else flag for flag in flags]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    for word in words:
        assert (str(student) if word == "RUN" else word) in err
