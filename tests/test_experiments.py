"""Every file in experiments/, shrunk, trains: none can rot."""

import dataclasses
import importlib.util
import json
from pathlib import Path

import jax
import pytest

import fftnet_jax.tokenizers
from fftnet_jax.config import load_config
from fftnet_jax.distillation.shards import write
from fftnet_jax.errors import ConfigError
from fftnet_jax.models import build_model
from fftnet_jax.runs.opening import fresh_params
from fftnet_jax.training import train

FILES = sorted((Path(__file__).parents[1] / "experiments").glob("*.py"))
OFFLINE = ("char", "byte", "tiktoken:cl100k_base")


def module(file):
    spec = importlib.util.spec_from_file_location(file.stem, file)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture(scope="module")
def problems(tmp_path_factory):
    """GSM8K's two files with a few problems made up."""
    folder = tmp_path_factory.mktemp("problems")
    for name, count in (("train", 24), ("test", 4)):
        rows = [
            {"question": f"{a} and {a}?", "answer": f"{a}+{a}=<<{a}+{a}={2 * a}>>\n#### {2 * a}"} for a in range(count)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def vocabulary(monkeypatch):
    """`vocabulary(there)`: whether GPT-2's can be had."""

    def set_it(there):
        def get_tokenizer(name):
            assert name == "tiktoken:gpt2"
            if not there:
                raise ConfigError("no network")

        monkeypatch.setattr(fftnet_jax.tokenizers, "get_tokenizer", get_tokenizer)

    return set_it


def shrunk_data(config, folder, text, problems):
    """Few and short sequences: of a text, of a synthetic task, or problems, where answers must fit in."""
    tokenizer = config.data.tokenizer if config.data.tokenizer in OFFLINE else "byte"
    data = dataclasses.replace(config.data, tokenizer=tokenizer, length=16, batch_size=2)
    if data.source == "gsm8k":
        sizes = {"num_problems": 8, "num_validation": 2, "num_test": 2, "length": 64}
        return dataclasses.replace(data, folder=str(problems), **sizes)
    if data.source in ("patterns", "recall"):
        return dataclasses.replace(data, num_samples=64, num_keys=2, num_queries=1)
    (folder / "text.txt").write_text(text + config.sample.prompt + text, encoding="utf-8")
    return dataclasses.replace(data, text_file=str(folder / "text.txt"))


def shrunk(config, folder, text, problems, teacher):
    """The same kind of run, small: one layer of each mixer, one step, tiny data, a tiny teacher."""
    mixers = tuple(dict.fromkeys(config.model.mixers))
    data = shrunk_data(config, folder, text, problems)
    sizes = {"width": 16, "num_heads": 2, "num_layers": len(mixers), "window": 4, "filter_modes": 4, "filter_width": 8}
    model = dataclasses.replace(
        config.model,
        **sizes,
        mixer=mixers,
        ffn_width=min(16, config.model.ffn_width),
        max_length=min(data.length, config.model.max_length),
        vocab_size=0,
    )
    training = dataclasses.replace(
        config.training, num_steps=1, num_epochs=0.0, accumulation=1, eval_batch_size=0, init_from="", histogram_every=0
    )
    distillation = dataclasses.replace(
        config.distillation,
        teacher=str(teacher) if config.distillation.teacher else "",
        shards=str(folder / "shards") if config.distillation.shards else "",
    )
    sample = dataclasses.replace(config.sample, max_new_tokens=2)
    parts = {"data": data, "model": model, "training": training, "distillation": distillation, "sample": sample}
    return dataclasses.replace(config, **parts)


def test_there_are_experiments():
    assert FILES


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_experiment_trains(file, text_file, problems, teacher_folder, vocabulary, tmp_path, capsys):
    vocabulary(there=False)
    config = load_config(str(file))
    config = shrunk(config, tmp_path, text_file.read_text(encoding="utf-8"), problems, teacher_folder)
    if config.distillation.shards:
        assert write(config) == 0
    figures = train(config, tmp_path / "run")
    assert figures["loss"] > 0
    assert capsys.readouterr().out.strip()
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1]
    assert rows[0]["skipped"] == 0
    assert ("train/kl" in rows[0]) == config.distillation.active == ("distill" in file.stem)


@pytest.mark.parametrize(
    "there, tokenizer, said", [(True, "tiktoken:gpt2", "GPT-2's"), (False, "gguf:smollm2", "SmolLM2's")]
)
def test_scratch_takes_the_tokens_that_are_there(there, tokenizer, said, vocabulary, capsys):
    vocabulary(there)
    (file,) = [file for file in FILES if file.stem == "gsm8k_scratch"]
    assert load_config(str(file)).data.tokenizer == tokenizer
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith(f"tokens: {said}")


@pytest.fixture
def ablation():
    return module(next(file for file in FILES if file.stem == "gsm8k_ablation"))


def test_ablation_has_the_published_sizes(ablation):
    """With the original's vocabulary, to the last digit that it prints."""
    config = load_config(ablation.__file__)
    assert len(ablation.PUBLISHED) == 16 and ablation.SMALLEST in ablation.PUBLISHED
    for shape, (millions, _, _) in ablation.PUBLISHED.items():
        sizes = dataclasses.replace(ablation.of_shape(shape, config).model, vocab_size=50_257)
        params = jax.eval_shape(lambda sizes=sizes: fresh_params(build_model(sizes), 0))
        assert round(sum(leaf.size for leaf in jax.tree.leaves(params)) / 1e6, 2) == millions, shape


def test_ablation_runs_each_shape_once(ablation, problems, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ablation, "PUBLISHED", {"8_1_8_2": (1.0, 50.0, 3.0), "8_1_8_4": (1.5, 40.0, 4.0)})
    options = ["data.tokenizer=byte", "data.num_problems=8", "data.num_validation=2", "data.length=32"]
    options += ["training.num_epochs=2", "training.learning_rate=0.01", "sample.max_new_tokens=2"]
    options = [f"--config.{option}" for option in (f"data.folder={problems}", "data.batch_size=4", *options)]
    assert ablation.main(["--shapes", "8_1_8_2", "--folder", str(tmp_path), *options]) == 0
    assert ablation.main(["--folder", str(tmp_path), *options]) == 0
    values = json.loads((tmp_path / "ablation.json").read_text())
    assert [row["shape"] for row in values["shapes"]] == ["8_1_8_2", "8_1_8_4"]
    for row in values["shapes"]:
        metrics = [json.loads(line) for line in (tmp_path / row["shape"] / "metrics.jsonl").read_text().splitlines()]
        losses = [values["val/loss"] for values in metrics if "val/loss" in values]
        figures = json.loads((tmp_path / row["shape"] / "test_metrics.json").read_text())
        assert (row["validation_loss"], row["test_loss"]) == (min(losses), figures["loss"])
        assert row["minutes"] > 0 and row["original"]["loss"] >= 40
    text = (tmp_path / "ablation.md").read_text()
    assert "| 8_1_8_4 |" in text and "| 1.50M | 40.00 | 4.00 |" in text and "not with ours" in text
    assert (tmp_path / "ablation.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(ablation, "train", None)  # would fail if it was called
    capsys.readouterr()
    assert ablation.main(["--shapes", "8_1_8_2", "--folder", str(tmp_path), *options]) == 0
    assert "| 8_1_8_4 |" in capsys.readouterr().out


def test_ablation_that_diverges(ablation, monkeypatch, tmp_path, capsys):
    def diverge(config, workdir):
        raise ablation.Diverged("20 non-finite losses")

    monkeypatch.setattr(ablation, "train", diverge)
    assert ablation.main(["--shapes", "128_3_1024_64", "--folder", str(tmp_path)]) == 1
    assert "error: 128_3_1024_64: 20 non-finite" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv, word",
    [
        (["--shapes", "128_3_1024_64", "128_3"], "'128_3'"),
        (["--shapes"], "--shapes"),
        (["--config.model.window=8"], "--shapes"),
        (["--config.model.windows=8"], "model.windows"),
        (["128_3_1024_64"], "'128_3_1024_64'"),
    ],
)
def test_ablation_refuses_in_one_line(ablation, argv, word, capsys):
    assert ablation.main(argv) == 2
    out, error = capsys.readouterr()
    assert out == "" and error.count("\n") == 1 and error.startswith("error: ") and word in error


def test_ablation_from_the_text_alone_unless_asked(ablation):
    assert not ablation.parse([])[2].distillation.active
    assert ablation.parse(["--distil"])[2].distillation.alpha == 0.5
    assert ablation.parse(["--distil", "--config.distillation.alpha=0.3"])[2].distillation.alpha == 0.3
    shapes, folder, _ = ablation.parse(["--shapes", "128_6_512_64", "128_6_512_64", "--folder", "a"])
    assert (shapes, folder) == (["128_6_512_64"], Path("a"))
