import json

import pytest

from fftnet_jax.errors import ConfigError
from fftnet_jax.runs.opening import load_decoder
from fftnet_jax.training import train

SHORT = ("training.num_steps=2", "training.eval_every=0", "training.checkpoint_every=0", "model.dropout=0")


def test_encoder_fills_gaps_and_refuses_to_write(tiny, tmp_path, capsys):
    figures = train(tiny(*SHORT, "model.family=encoder", "model.mixer=fourier", "data.split=0.9,0.1"), tmp_path / "run")
    out = capsys.readouterr().out
    assert "--- original" in out
    assert "masked tokens filled in" in out
    assert figures["split"] == "validation"
    assert figures["bits_per_character"] is None
    assert json.loads((tmp_path / "run" / "test_metrics.json").read_text()) == figures
    with pytest.raises(ConfigError, match=r"holds an encoder \(fourier\)"):
        load_decoder(tmp_path / "run")


def test_synthetic_task_shows_ids_and_has_no_text(tiny, tmp_path, capsys):
    synthetic = ("data.text_file=", "data.source=recall", "data.num_samples=64", "data.num_keys=2", "data.num_values=2")
    train(tiny(*SHORT, *synthetic, "sample.prompt=ignored"), tmp_path / "run")
    assert all(word.isdigit() for word in capsys.readouterr().out.split())
    with pytest.raises(ConfigError, match="trained on 'recall'"):
        load_decoder(tmp_path / "run")


def test_prompt_is_continued(tiny, tmp_path, capsys):
    train(tiny(*SHORT, "sample.prompt=the cat", "sample.max_new_tokens=3"), tmp_path / "run")
    out = capsys.readouterr().out
    assert out.startswith("the cat")
    assert len(out) == len("the cat") + 3 + 1
