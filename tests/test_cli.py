"""train.py and generate.py as a user meets them: what they print, where, and how they end."""

import importlib.util
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from fftnet_jax.config.command_line import parse_config

ROOT = Path(__file__).parents[1]
BASE = "from fftnet_jax.config import default_config\ndef get_config():\n    config = default_config()\n"


def script(name):
    spec = importlib.util.spec_from_file_location(f"{name}_script", ROOT / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture(scope="module")
def train():
    return script("train")


@pytest.fixture(scope="module")
def generate():
    return script("generate")


@pytest.fixture
def refused(capsys):
    """Checks that a call ends with code 2 and one line on standard error that holds all `words`."""

    def check(main, argv, *words):
        assert main(argv) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1, err
        assert err.startswith("error: ")
        for word in words:
            assert word in err, err

    return check


@pytest.mark.parametrize(
    "override, words",
    [
        ("data.batch_size=abc", ["data.batch_size", "int", "'abc'"]),
        ("data.batch_size=1.5", ["data.batch_size", "int", "1.5"]),
        ("data.batch_size=true", ["data.batch_size", "int", "'true'"]),
        ("data.batch_size=True", ["data.batch_size", "int", "True"]),
        ("data.batch_size=", ["data.batch_size", "int"]),
        ("data.batch_size=0", ["data.batch_size", "at least 1", "0"]),
        ("data.length=-5", ["data.length", "at least 1", "-5"]),
        ("model.width=0", ["model.width", "at least 1"]),
        ("model.num_layers=0", ["model.num_layers", "at least 1"]),
        ("model.window=0", ["model.window", "at least 1"]),
        ("model.vocab_size=-1", ["model.vocab_size", "at least 0"]),
        ("model.vocab_size=3", ["model.vocab_size", "3"]),
        ("model.num_heads=0", ["model.num_heads", "at least 1"]),
        ("training.num_steps=0", ["training.num_steps", "at least 1"]),
        ("training.num_steps=99999999999", ["training.num_steps", "99999999999"]),
        ("training.learning_rate=nan", ["training.learning_rate", "finite", "nan"]),
        ("training.learning_rate=inf", ["training.learning_rate", "finite", "inf"]),
        ("training.learning_rate=-1e-3", ["training.learning_rate", "above 0", "-0.001"]),
        ("training.num_epochs=inf", ["training.num_epochs", "finite"]),
        ("training.num_epochs=1e12", ["training.num_steps", "at most"]),
        ("training.weight_decay=nan", ["training.weight_decay", "finite"]),
        ("training.max_skipped=0", ["training.max_skipped", "at least 1"]),
        ("training.accumulation=3", ["data.batch_size", "training.accumulation (3)", "4"]),
        ("training.optimizer=adam", ["training.optimizer", "adamw", "'adam'"]),
        ("training.init_from=/nowhere", ["training.init_from", "/nowhere"]),
        ("model.tie_head=yes", ["model.tie_head", "bool", "'yes'"]),
        ("model.dropout=1", ["model.dropout", "below 1", "1.0"]),
        ("model.mixer=fourrier", ["model.mixer", "did you mean fourier?", "'fourrier'"]),
        ("model.mixer=fftnet", ["model.mixer", "'fftnet'", "bidirectional", "causal_fftnet"]),
        ("model.mixer=attention,attention", ["model.mixer", "model.num_layers (1)", "2"]),
        ("model.widht=3", ["unknown field model.widht", "did you mean width?"]),
        ("modle.width=3", ["unknown field modle", "did you mean model?"]),
        ("model=3", ["model is a section", "model."]),
        ("model.width.x=3", ["unknown field model.width"]),
        ("seed=-1", ["seed", "at least 0", "-1"]),
        ("seed=99999999999999999999", ["seed", "99999999999999999999"]),
        ("data.split=0.5,0.2", ["data.split", "add up to 1", "(0.5, 0.2)"]),
        ("data.split=1.5,-0.5", ["data.split", "add up to 1"]),
        ("data.split=half", ["data.split", "'half'"]),
        ("data.tokenizer=words", ["data.tokenizer", "'words'"]),
        ("data.tokenizer=tiktoken:nonsense", ["data.tokenizer", "'nonsense'"]),
        ("data.source=nowhere", ["data.source", "'nowhere'"]),
        ("data.text_file=/nowhere/text", ["data.text_file", "/nowhere/text"]),
        ("data.text_file=/", ["data.text_file", "folder"]),
        ("data.length=100000", ["data.length=100000", "too short"]),
        ("model.width=1000000", ["model.width must be lower, got 1000000", "GiB of memory, and this host has"]),
        ("model.num_layers=2147483647", ["model.num_layers must be lower", "got 2147483647", "GiB"]),
        ("data.batch_size=2147483647", ["data.batch_size must be lower", "got 2147483647", "GiB"]),
        ("training.eval_batch_size=2147483647", ["training.eval_batch_size must be lower", "got 2147483647", "GiB"]),
        ("sample.prompt=XYZ", ["sample.prompt", "'XYZ'"]),
        ("sample.top_p=0", ["sample.top_p", "above 0"]),
    ],
)
def test_wrong_setting_leaves_no_trace(override, words, train, refused, experiment, tmp_path):
    workdir = tmp_path / "run"
    refused(train, ["--config", experiment, "--workdir", str(workdir), f"--config.{override}"], *words)
    assert not workdir.exists()


@pytest.mark.parametrize(
    "overrides, words",
    [
        (["model.positions=sinusoidal", "model.width=15"], ["model.width", "even", "15"]),
        (["model.mixer=attention", "model.width=15"], ["model.width", "multiple", "15"]),
        (["model.positions=learned", "model.max_length=8"], ["data.length", "8", "16"]),
        (["model.family=encoder", "data.source=recall", "data.text_file="], ["recall", "decoder"]),
        (
            ["data.source=recall", "data.text_file=", "data.num_keys=2", "data.length=2147483647"],
            ["data.length", "GiB"],
        ),
        (["data.source=patterns", "data.text_file=", "data.vocab_size=2147483647"], ["data.vocab_size", "GiB"]),
        (["data.source=recall", "data.text_file=", "data.num_keys=9"], ["data.num_keys", "9"]),
    ],
)
def test_settings_that_do_not_fit_together(overrides, words, train, refused, experiment, tmp_path):
    workdir, flags = tmp_path / "run", [f"--config.{override}" for override in overrides]
    refused(train, ["--config", experiment, "--workdir", str(workdir), *flags], *words)
    assert not workdir.exists()


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", ["data.text_file", "empty"]),
        (b" \n \n", ["data.text_file", "empty"]),
        (b"abc", ["data.text_file", "too short"]),
        (b"abcdefgh" * 10 + b"\xff", ["data.text_file", "UTF-8", "0xff", "80"]),
    ],
)
def test_wrong_text_file(content, words, train, refused, experiment, tmp_path):
    text, workdir = tmp_path / "text.txt", tmp_path / "run"
    text.write_bytes(content)
    refused(train, ["--config", experiment, "--workdir", str(workdir), f"--config.data.text_file={text}"], *words)
    assert not workdir.exists()


@pytest.mark.parametrize(
    "content, words",
    [
        ("x = 1\n", ["must define get_config()"]),
        ("def get_config():\n    raise ValueError('so\\nit is')\n", ["ValueError", "so it is"]),
        ("def get_config():\n    return 3\n", ["must return a ConfigDict", "int"]),
        ("def get_config(:\n", ["SyntaxError"]),
        ("import nowhere_to_be_found\n", ["ModuleNotFoundError", "nowhere_to_be_found"]),
        ("raise SystemExit(7)\n", ["SystemExit"]),
        (BASE + "    config.model.widht = 3\n    return config\n", ["unknown field model.widht", "width"]),
        (BASE + "    config.lock()\n    config.model.widht = 3\n    return config\n", ["AttributeError", "widht"]),
        (BASE + "    config.modle.width = 3\n    return config\n", ["AttributeError", "modle"]),
        (BASE + "    config.model.width = '3'\n    return config\n", ["model.width", "int", "'3'"]),
        (BASE + "    config.model = 3\n    return config\n", ["model must be a mapping"]),
    ],
)
def test_wrong_experiment_file(content, words, train, refused, tmp_path):
    file = tmp_path / "experiment.py"
    file.write_text(content)
    refused(train, ["--config", str(file), "--workdir", str(tmp_path / "run"), "--config.model.num_layers=1"], *words)
    assert not (tmp_path / "run").exists()


def test_experiment_file_that_is_none(train, refused, tmp_path):
    for path in (tmp_path / "nothing.py", tmp_path):
        refused(train, ["--config", str(path)], "--config", str(path))
    (tmp_path / "notes.txt").write_text("x")
    refused(train, ["--config", str(tmp_path / "notes.txt")], "Python file", "notes.txt")


@pytest.mark.parametrize(
    "argv, words",
    [
        ([], ["--config"]),
        (["--config"], ["--config", "argument"]),
        (["--config", "FILE", "--lr=3"], ["'--lr=3'"]),
        (["--config", "FILE", "stray"], ["'stray'"]),
        (["--config", "FILE", "--conf.seed=3"], ["--conf.seed=3"]),
        (["--config", "FILE", "--config.seed"], ["--config.a.b=value", "--config.seed"]),
    ],
)
def test_wrong_arguments_of_train(argv, words, train, refused, experiment, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(train, [experiment if word == "FILE" else word for word in argv], *words)
    assert not list(tmp_path.iterdir())


def test_value_after_a_space(experiment):
    argv = ["--config", experiment, "--config.sample.prompt", "a b", "--config.seed=4", "--config.sample.prompt=c = d"]
    config = parse_config(argv, "")[1]
    assert (config.sample.prompt, config.seed) == ("c = d", 4)
    assert parse_config(argv[:-1], "")[1].sample.prompt == "a b"


def test_workdir_that_cannot_be_used(train, refused, experiment, tmp_path):
    (tmp_path / "file").write_text("x")
    for workdir in (tmp_path / "file", tmp_path / "file" / "run"):
        refused(train, ["--config", experiment, "--workdir", str(workdir)], "--workdir", str(workdir))
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "config.json").write_text("{")
    refused(train, ["--config", experiment, "--workdir", str(damaged)], str(damaged / "config.json"))
    assert [path.name for path in damaged.iterdir()] == ["config.json"]


def test_workdir_of_another_configuration(train, refused, experiment, trained_copy):
    before = (trained_copy / "config.json").read_text()
    argv = ["--config", experiment, "--workdir", str(trained_copy)]
    refused(train, [*argv, "--config.model.width=32"], "model.width: 16 there, 32 here", str(trained_copy))
    assert (trained_copy / "config.json").read_text() == before


@pytest.mark.parametrize(
    "name, words", [("train", ["--config.model.width=128", "--workdir"]), ("generate", ["--top_p"])]
)
def test_help_is_readable(name, words, request, capsys):
    with pytest.raises(SystemExit) as info:
        request.getfixturevalue(name)(["--help"])
    assert info.value.code == 0
    out = capsys.readouterr().out
    assert all(word in out for word in words)
    assert "%(" not in out


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--top_p=0"], ["top_p", "got 0.0"]),
        (["--top_p=1.5"], ["top_p", "got 1.5"]),
        (["--top_p=nan"], ["top_p", "got nan"]),
        (["--top_k=-1"], ["top_k", "got -1"]),
        (["--top_k=x"], ["top_k", "'x'"]),
        (["--weights=int4"], ["--weights", "int8", "'int4'"]),
        (["--temperature=-1"], ["temperature", "got -1.0"]),
        (["--temperature=nan"], ["temperature", "got nan"]),
        (["--max_new_tokens=-1"], ["max_new_tokens", "got -1"]),
        (["--num_samples=0"], ["num_samples", "got 0"]),
        (["--num_samples=2147483647"], ["--num_samples must be lower, got 2147483647", "GiB of memory"]),
        (["--seed=-1"], ["seed", "got -1"]),
        (["--seed=99999999999999"], ["seed", "got 99999999999999"]),
        (["--checkpoint=first"], ["--checkpoint", "'first'"]),
        (["--unknown"], ["--unknown"]),
        (["--prompt="], ["--prompt", "at least one character"]),
        (["--prompt=XYZ"], ["'XYZ'", "vocabulary"]),
        (["--prompt=the", "--prompt=#"], ["'#'", "vocabulary"]),
        (["--prompt_file=/nowhere/prompt"], ["--prompt_file", "/nowhere/prompt"]),
        (["--prompt_file=/"], ["--prompt_file", "directory"]),
    ],
)
def test_wrong_arguments_of_generate(flags, words, generate, refused, trained):
    prompt = [] if any(flag.startswith("--prompt") for flag in flags) else ["--prompt=the"]
    refused(generate, ["--workdir", str(trained), *prompt, *flags], *words)


def test_prompt_file_that_is_not_utf8(generate, refused, trained, tmp_path):
    (tmp_path / "prompt").write_bytes(b"th\xe9")
    refused(generate, ["--workdir", str(trained), "--prompt_file", str(tmp_path / "prompt")], "UTF-8", "byte 2")


def test_folders_that_hold_no_decoder(generate, refused, trained, tmp_path):
    prompt = ["--prompt", "the"]
    refused(generate, prompt, "--workdir")
    for workdir in (tmp_path / "missing", tmp_path):
        refused(generate, ["--workdir", str(workdir), *prompt], "--workdir", str(workdir), "config.json")
    bare = shutil.copytree(trained, tmp_path / "bare", ignore=shutil.ignore_patterns("checkpoints"))
    refused(generate, ["--workdir", str(bare), *prompt], "no checkpoint", str(bare))
    (bare / "checkpoints").mkdir()
    refused(generate, ["--workdir", str(bare), *prompt], "no checkpoint", str(bare))
    config = json.loads((bare / "config.json").read_text())
    config["model"] |= {"family": "encoder", "mixer": "fourier"}
    (bare / "config.json").write_text(json.dumps(config))
    refused(generate, ["--workdir", str(bare), "--untrained", *prompt], "encoder", "fourier")
    (bare / "config.json").write_text("{")
    refused(generate, ["--workdir", str(bare), *prompt], str(bare / "config.json"))


@pytest.mark.parametrize("field", ["width", "num_layers", "ffn_width", "vocab_size", "filter_modes", "short_filter"])
def test_run_of_absurd_sizes(field, generate, refused, trained, tmp_path):
    """Opened as it stands, or without a checkpoint: nothing is made."""
    shutil.copytree(trained, tmp_path / "run")
    config = json.loads((trained / "config.json").read_text())
    config["model"][field] = 2**31 - 8
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    words = [str(tmp_path / "run" / "config.json"), "must be lower", "got 2147483640", "its parameters need", "GiB"]
    refused(generate, ["--workdir", str(tmp_path / "run"), "--untrained", "--prompt=the"], *words)


def test_generate_writes_text_to_stdout_and_the_rest_to_stderr(generate, trained, tmp_path, capsys, monkeypatch):
    argv = ["--workdir", str(trained), "--max_new_tokens=5"]
    assert generate([*argv, "--prompt", "the", "--prompt", "cat"]) == 0
    out, err = capsys.readouterr()
    first, second = out[:9], out[9:]
    assert (first[:3], second[:3], first[-1], second[-1], len(out)) == ("the", "cat", "\n", "\n", 18)
    assert "causal_fftnet" in err
    assert "temperature=1.0" in err
    assert "10 tokens" in err
    (tmp_path / "prompt").write_text("the\n")
    assert generate([*argv, "--prompt_file", str(tmp_path / "prompt")]) == 0
    assert capsys.readouterr().out == first
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"the")))
    assert generate(argv) == 0
    assert capsys.readouterr().out == first
    assert generate([*argv, "--prompt=the", "--stop", first[5]]) == 0
    assert capsys.readouterr().out.rstrip("\n") == "the" + first[3:].partition(first[5])[0].rstrip("\n")


def test_several_samples_come_in_one_batch(generate, trained, capsys):
    argv = ["--workdir", str(trained), "--max_new_tokens=8", "--prompt=the", "--num_samples=3"]
    assert generate([*argv, "--temperature=1.5"]) == 0
    out = capsys.readouterr().out
    texts = [part.partition("\n")[2] for part in out.split("--- sample ")[1:]]
    assert len(texts) == len(set(texts)) == 3
    assert all(text.startswith("the") for text in texts)
    assert generate([*argv, "--max_new_tokens=0"]) == 0
    assert capsys.readouterr().out.count("the") == 3


def test_divergence_ends_with_one(train, experiment, tmp_path, capsys):
    flags = ["--config.training.learning_rate=1e30", "--config.training.clip_norm=0", "--config.training.max_skipped=2"]
    assert train(["--config", experiment, "--workdir", str(tmp_path / "run"), *flags]) == 1
    assert "error: 2 updates in a row skipped" in capsys.readouterr().err.splitlines()[-1]


def run(*argv, **kwargs):
    return subprocess.run([sys.executable, *argv], cwd=ROOT, capture_output=True, text=True, timeout=300, **kwargs)


@pytest.mark.as_shipped
def test_scripts_end_to_end(experiment, tmp_path):
    """From a shell: an error, an interrupted run, its second half, and text from it."""
    workdir = tmp_path / "run"
    wrong = run("train.py", "--config", experiment, "--config.model.width=-1", "--workdir", workdir)
    assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 1)
    command = ["train.py", "--config", experiment, "--workdir", str(workdir), "--config.training.num_steps=600"]
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen([sys.executable, *command], cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True) as process:
        metrics, deadline = workdir / "metrics.jsonl", time.monotonic() + 200
        while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        err = process.communicate(timeout=100)[1]
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "Warning" not in err
    assert "WARNING" not in err
    last = err.splitlines()[-1]
    assert last.startswith("stopped after step ")
    step = int(last.split()[3].rstrip(","))
    assert str(step) in {path.name for path in (workdir / "checkpoints").iterdir()}
    text = run("generate.py", "--workdir", workdir, "--checkpoint", "latest", "--max_new_tokens=4", input="the cat\n")
    assert text.returncode == 0, text.stderr
    assert text.stdout.startswith("the cat")
    assert text.stderr.count("\n") == 2, text.stderr
    assert f"step {step}" in text.stderr
    missing = run("generate.py", "--workdir", tmp_path / "nothing", "--prompt", "a")
    assert (missing.returncode, missing.stdout, missing.stderr.count("\n")) == (2, "", 1)
