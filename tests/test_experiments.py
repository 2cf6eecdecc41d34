"""Every file in experiments/, shrunk, trains: none can rot."""

import dataclasses
import json
from pathlib import Path

import pytest

from fftnet_jax.config import load_config
from fftnet_jax.training import train

FILES = sorted((Path(__file__).parents[1] / "experiments").glob("*.py"))
OFFLINE = ("char", "byte", "tiktoken:cl100k_base")


def shrunk(config, folder, text):
    """The same kind of run, small: one layer of each mixer, one step, tiny data."""
    (folder / "text.txt").write_text(text + config.sample.prompt + text, encoding="utf-8")
    mixers = tuple(dict.fromkeys(config.model.mixers))
    synthetic = config.data.source in ("patterns", "recall")
    data = dataclasses.replace(
        config.data,
        text_file="" if synthetic else str(folder / "text.txt"),
        tokenizer=config.data.tokenizer if config.data.tokenizer in OFFLINE else "byte",
        length=16,
        batch_size=2,
        num_samples=64,
        num_keys=2,
        num_queries=1,
    )
    sizes = {"width": 16, "num_heads": 2, "num_layers": len(mixers), "window": 4, "filter_modes": 4, "filter_width": 8}
    model = dataclasses.replace(
        config.model,
        **sizes,
        mixer=mixers,
        ffn_width=min(16, config.model.ffn_width),
        max_length=min(16, config.model.max_length),
        vocab_size=0,
    )
    training = dataclasses.replace(
        config.training, num_steps=1, num_epochs=0.0, accumulation=1, eval_batch_size=0, init_from="", histogram_every=0
    )
    sample = dataclasses.replace(config.sample, max_new_tokens=2)
    return dataclasses.replace(config, data=data, model=model, training=training, sample=sample)


def test_there_are_experiments():
    assert FILES


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_experiment_trains(file, text_file, tmp_path, capsys):
    config = shrunk(load_config(str(file)), tmp_path, text_file.read_text(encoding="utf-8"))
    figures = train(config, tmp_path / "run")
    assert figures["loss"] > 0
    assert capsys.readouterr().out.strip()
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1]
    assert rows[0]["skipped"] == 0
