"""Wrong input to the shard writer, exact match, benchmarks and studies; end to end, to all and to the two scripts.

`test_cli` has the settings, files and arguments of train.py and generate.py. Everywhere the same holds: exit status 2,
one line that names what is wrong, its value and what would be right, and nothing written.
"""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import command_line
from fftnet_jax.distillation import exact_match, shards
from reliability.fuzz_readers import make_hf, make_problems

ROOT = Path(__file__).resolve().parents[1]
ROOMS = {
    "benchmarks": ("mixers", "loss", "decode", "train_step", "scaling", "plans", "teacher", "report", "scale"),
    "studies": ("distillation", "guides", "positions", "quality", "top_k", "weights"),
    "reliability": ("chaos", "kill_shards", "soak", "fuzz"),
}
SHARDS = [  # overrides of the student's experiment, and words of the line
    (["distillation.teacher="], ["distillation.teacher", "must be set", "''"]),
    (["distillation.shards="], ["distillation.shards", "must be set", "''"]),
    (["distillation.teacher=/nowhere"], ["teacher", "a folder, a GGUF file", "'/nowhere'"]),
    (["distillation.teacher=FILE"], ["must be a GGUF file", "FILE"]),
    (["distillation.top_k=-1"], ["distillation.top_k", "at least 0", "-1"]),
    (["distillation.temperature=0"], ["distillation.temperature", "above 0", "0"]),
    (["distillation.temperature=nan"], ["distillation.temperature", "finite", "nan"]),
    (["distillation.alpha=1.5"], ["distillation.alpha", "at most 1", "1.5"]),
    (["distillation.rows_per_shard=0"], ["distillation.rows_per_shard", "at least 1", "0"]),
    (["distillation.teacher_batch_size=x"], ["distillation.teacher_batch_size", "int", "'x'"]),
    (["distillation.teacher_dtype=float16"], ["distillation.teacher_dtype", "bfloat16", "'float16'"]),
    (["data.folder=/nowhere"], ["data.folder", "train.jsonl", "/nowhere"]),
    (["data.num_problems=100000"], ["data.num_problems", "100000"]),
    (["data.source=patterns"], ["data.source must be 'gsm8k'"]),
    ([], ["data.tokenizer", "at most its 12 tokens", "'byte'"]),
    (["distillation.teecher=x"], ["unknown field distillation.teecher", "did you mean teacher?"]),
]
MATCH = [  # arguments of exact match
    ([], ["--workdir", "--teacher", "required"]),
    (["--teacher", "/nowhere"], ["teacher", "'/nowhere'"]),
    (["--workdir", "/nowhere"], ["--workdir", "config.json", "/nowhere"]),
    (["--workdir", "a", "--teacher", "b"], ["--teacher", "not allowed"]),
    (["--teacher", "a", "--shots=-1"], ["--shots", "0..2^31 - 1", "-1"]),
    (["--teacher", "a", "--batch_size=0"], ["--batch_size", "1..2^31 - 1", "0"]),
    (["--teacher", "a", "--max_new_tokens=x"], ["--max_new_tokens", "int", "'x'"]),
    (["--teacher", "a", "--split=train"], ["--split", "validation", "'train'"]),
    (["--teacher", "a", "--out", "FILE/answers"], ["--out", "can be written", "FILE/answers"]),
    (["--teacher", "TEACHER", "--out", "NEW/answers"], ["--teacher", "tokenizer", "TEACHER"]),
]
BENCHMARKS = [
    (name, ["--nonsense", "3"], ["unrecognized arguments", "--nonsense"])
    for names in ROOMS.values()
    for name in names
    if name != "scale"
]
BENCHMARKS += [
    ("scale", ["--config", "experiments/shakespeare.py", "--nonsense"], ["unknown argument '--nonsense'", "--config"]),
    ("scale", [], ["--config", "required"]),
    ("scale", ["--config", "/nowhere.py"], ["--config must name an experiment file", "/nowhere.py"]),
    ("mixers", ["--rounds=-1"], ["--rounds must be in 0..999999", "-1"]),
    ("mixers", ["--rounds=many"], ["--rounds", "int", "'many'"]),
    ("loss", ["--only", "("], ["--only", "regular expression", "'('"]),
    ("decode", ["--only", "no such case"], ["--only must be found in one of", "'no such case'"]),
    ("train_step", ["--setting", "mine"], ["--setting", "original_b", "'mine'"]),
    ("train_step", ["--vocab_size=0"], ["--vocab_size", "at least 1", "'0'"]),
    ("train_step", ["--setting", "experiment", "--config", "/nowhere.py"], ["--config", "/nowhere.py"]),
    ("train_step", ["--setting", "experiment", "--set", "model.widht=3"], ["unknown field model.widht", "width"]),
    ("chaos", ["--kills=0"], ["--kills", "at least 1", "'0'"]),
    ("chaos", ["--steps=1.5"], ["--steps", "whole number", "'1.5'"]),
    ("kill_shards", ["--kills=-3"], ["--kills", "at least 1", "'-3'"]),
    ("guides", ["--temperatures", "1", "nan"], ["--temperatures", "above 0", "'nan'"]),
    ("guides", ["--problems=x"], ["--problems", "whole number", "'x'"]),
    ("quality", ["--learning_rates", "0"], ["--learning_rates", "above 0", "'0'"]),
    ("quality", ["--seeds", "one"], ["--seeds", "int", "'one'"]),
    ("quality", ["--config", "/nowhere.py"], ["--config", "/nowhere.py"]),
    ("distillation", ["--scratch", "0.1"], ["as many trials on either side", "1 and 2"]),
    ("distillation", ["--scratch=-1"], ["--scratch", "above 0", "'-1'"]),
    ("top_k", ["--tokens=0"], ["--tokens", "at least 1", "'0'"]),
    ("top_k", ["--teacher", "/nowhere"], ["teacher", "'/nowhere'"]),
    ("positions", ["--workdir", "/nowhere"], ["--workdir", "/nowhere"]),
    ("soak", ["--steps=10"], ["--steps must be at least 3000", "10"]),
    ("soak", ["--folder=/nowhere"], ["--folder must be one that has reliability/results", "/nowhere"]),
    ("fuzz", ["--seconds=0"], ["--seconds must be above 0", "0"]),
    ("fuzz", ["--readers", "pickle"], ["--readers", "gguf", "'pickle'"]),
    ("fuzz", ["--output=/nowhere/x"], ["--output must be a file in a folder that is there", "/nowhere/x"]),
]
END_TO_END = [
    (["train.py"], ["--config", "required"]),
    (["train.py", "--config", "EXPERIMENT", "--config.mesh.data=3"], ["mesh.data", "number of devices (1)", "3"]),
    (["train.py", "--config", "EXPERIMENT", "--config.mesh.data=0"], ["mesh.data", "at least 1", "0"]),
    (["train.py", "--config", "EXPERIMENT", "--coordinator", "here:1"], ["--num_processes", "--process_id", "set"]),
    (
        ["train.py", "--config", "EXPERIMENT", "--distributed"],
        ["--distributed finds no Slurm, GKE, Open MPI or TPU pod environment; name", "--coordinator HOST:PORT"],
    ),
    (
        ["train.py", "--config", "EXPERIMENT", "--coordinator", "here", "--num_processes=2", "--process_id=0"],
        ["--coordinator must be HOST:PORT", "'here'"],
    ),
    (["generate.py", "--workdir", "/nowhere", "--prompt", "a"], ["--workdir", "config.json", "/nowhere"]),
    (["generate.py", "--workdir", "/nowhere", "--top_k=x"], ["--top_k", "int", "'x'"]),
    (["-m", "fftnet_jax.distillation.shards", "--config", "EXPERIMENT"], ["distillation.teacher", "must be set"]),
    (["-m", "fftnet_jax.distillation.exact_match", "--teacher", "/nowhere"], ["teacher", "'/nowhere'"]),
    (["-m", "benchmarks.mixers", "--rounds=-1"], ["--rounds must be in 0..999999", "-1"]),
    (["-m", "benchmarks.scale", "--config", "EXPERIMENT", "--devices=0"], ["--devices must be in 1..16384", "0"]),
    (["-m", "reliability.chaos", "--kills=none"], ["--kills", "whole number", "'none'"]),
]


STUDENT = """
from fftnet_jax.config import default_config


def get_config():
    config = default_config()
    config.data.source = "gsm8k"
    config.data.folder = {problems!r}
    config.data.num_problems = 2
    config.data.num_validation = 1
    config.data.tokenizer = "byte"
    config.data.length = 64
    config.distillation.teacher = {teacher!r}
    return config
"""


@pytest.fixture(scope="module")
def teacher_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    make_hf(folder)
    return folder


@pytest.fixture(scope="module")
def student(teacher_folder, tmp_path_factory):
    """An experiment file of a student of a tiny teacher, whose vocabulary is too small for its tokenizer."""
    folder = tmp_path_factory.mktemp("student")
    make_problems(folder)
    (folder / "student.py").write_text(STUDENT.format(problems=str(folder), teacher=str(teacher_folder)))
    return folder / "student.py"


@pytest.fixture
def refused(capsys, tmp_path, monkeypatch):
    """Checks that a call ends with 2 and one line with all `words`, and leaves nothing in the current folder."""
    (tmp_path / "file").write_text("x")
    for name in ("experiments", "benchmarks"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)

    def check(call, argv, words, **places):
        places = {"FILE": str(tmp_path / "file"), "NEW": str(tmp_path / "new"), **places}
        before = {path.name for path in tmp_path.iterdir()}
        argv, words = ([_placed(text, places) for text in texts] for texts in (argv, words))
        assert call(argv) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and err.startswith("error: "), (out, err)
        assert all(word in err for word in words), err
        assert {path.name for path in tmp_path.iterdir()} == before

    return check


def _placed(text, places):
    for name, value in places.items():
        text = text.replace(name, value)
    return text


@pytest.mark.parametrize("overrides, words", SHARDS, ids=lambda value: "".join(value))
def test_shard_writer(overrides, words, refused, student, tmp_path):
    flags = [f"--config.{override}" for override in overrides]
    refused(shards.main, ["--config", str(student), "--config.distillation.shards=NEW", *flags], words)


@pytest.mark.parametrize("argv, words", MATCH, ids=lambda value: " ".join(value))
def test_exact_match(argv, words, refused, teacher_folder):
    refused(exact_match.main, argv, words, TEACHER=str(teacher_folder))


@pytest.mark.parametrize("name, argv, words", BENCHMARKS)
def test_benchmark(name, argv, words, refused):
    room = next(room for room, names in ROOMS.items() if name in names)
    main = importlib.import_module(f"{room}.{name}").main
    refused(lambda argv: command_line.run(main, argv), argv, words)


@pytest.mark.parametrize("argv, words", END_TO_END, ids=lambda value: " ".join(value))
def test_end_to_end(argv, words, experiment, tmp_path):
    argv = [_placed(text, {"EXPERIMENT": experiment}) for text in argv]
    path = [str(ROOT / argv[0])] if argv[0].endswith(".py") else argv[:1]
    done = subprocess.run(
        [sys.executable, *path, *argv[1:]],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: "), done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert not list(tmp_path.iterdir())


def test_there_are_many():
    assert len(SHARDS) + len(MATCH) + len(BENCHMARKS) >= 70 and len(END_TO_END) >= 10
