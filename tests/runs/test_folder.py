import json

import pytest

from fftnet_jax.errors import ConfigError
from fftnet_jax.runs.folder import RunFolder, read_metrics, to_json


def test_metrics_after_a_step_are_dropped_with_half_a_line(tmp_path):
    folder = RunFolder(tmp_path)
    folder.keep_metrics_until(3)  # no file yet
    for step in (2, 4, 6):
        folder.add_metrics({"step": step, "train/loss": 0.1 + step, "val/loss": float("nan")})
    whole = (tmp_path / "metrics.jsonl").read_text()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "tr')
    folder.keep_metrics_until(6)
    assert (tmp_path / "metrics.jsonl").read_text() == whole
    folder.keep_metrics_until(4)
    folder.add_metrics({"step": 6})
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [2, 4, 6]
    assert not list(tmp_path.glob(".*"))


def test_json_has_no_nan():
    assert json.loads(to_json({"a": float("nan"), "b": float("-inf"), "c": 1.5, "d": "x", "e": None})) == {
        "a": None,
        "b": None,
        "c": 1.5,
        "d": "x",
        "e": None,
    }


def test_configuration_comes_back(tiny, tmp_path):
    config = tiny("model.vocab_size=5", "model.mixer=attention")
    folder = RunFolder(tmp_path / "a" / "b")
    folder.make()
    folder.claim(config, "f")
    folder.claim(config, "f")
    assert folder.load_config() == config
    folder.claim(tiny("model.vocab_size=5", "model.mixer=attention", "sample.prompt=x", "training.log_every=9"), "f")
    with pytest.raises(ConfigError, match=r"data_fingerprint: 'f' there, 'g' here"):
        folder.claim(config, "g")


@pytest.mark.parametrize(
    "content, words",
    [
        ("{", "can't be read"),
        ("[1]", "must hold a JSON object"),
        (b"\xff\xfe", "can't be read"),
        ('{"modle": {}}', "config.json: unknown field modle"),
        ('{"data": {"length": 0}}', "config.json: data.length must be at least 1"),
        ("{}", "model.vocab_size must be at least 1"),
    ],
)
def test_damaged_configuration(content, words, tmp_path):
    (tmp_path / "config.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=words) as info:
        RunFolder(tmp_path).load_config()
    assert "\n" not in str(info.value)


def test_changes_are_accepted_and_kept_on_request(tiny, tmp_path):
    folder = RunFolder(tmp_path)
    folder.claim(tiny("model.vocab_size=5"), "f")
    other = tiny("model.vocab_size=5", "data.batch_size=8", "training.learning_rate=0.5")
    with pytest.raises(ConfigError, match=r"data.batch_size: 4 there, 8 here.*take --accept_changes"):
        folder.claim(other, "f")
    changed = folder.claim(other, "g", accept_changes=True)
    assert [line.split(":")[0] for line in changed] == ["data.batch_size", "data_fingerprint", "training.learning_rate"]
    assert json.loads((tmp_path / "changes.jsonl").read_text())["changed"] == changed
    assert folder.claim(other, "g") == []
    for fixed in ("model.width=8", "training.optimizer=muon"):
        with pytest.raises(ConfigError, match=f"{fixed.split('=')[0]}: .* take another --workdir"):
            folder.claim(tiny("model.vocab_size=5", fixed), "g", accept_changes=True)


def test_fields_that_came_later_are_no_change(tiny, tmp_path):
    folder, config = RunFolder(tmp_path), tiny("model.vocab_size=5")
    folder.claim(config, "f")
    values = json.loads((tmp_path / "config.json").read_text())
    del values["training"]["max_spike"]
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert folder.claim(config, "f") == []
