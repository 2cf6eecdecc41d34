import json

import pytest

from fftnet_jax.errors import ConfigError
from fftnet_jax.runs.folder import RunFolder, read_metrics, to_json
from fftnet_jax.runs.seal import seal


def finish_step(folder, step):
    """A checkpoint as a run leaves it, as far as its folder knows."""
    place = folder / "checkpoints" / str(step)
    (place / "params").mkdir(parents=True)
    seal(place)


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
    finish_step(folder, 10)
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
    finish_step(folder, 10)
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


@pytest.mark.parametrize(
    "override, works",
    [
        ("model.width=8", False),
        ("model.num_layers=2", False),
        ("model.mixer=attention", False),
        ("model.vocab_size=6", False),
        ("model.dropout=0.3", True),
        ("training.optimizer=muon", True),
        ("training.learning_rate=0.5", True),
    ],
)
def test_init_from_is_recommended_where_it_would_work(override, works, tiny, tmp_path):
    folder = RunFolder(tmp_path)
    folder.claim(tiny("model.vocab_size=5"), "f")
    finish_step(folder, 10)
    with pytest.raises(ConfigError, match=r"; take .*another --workdir") as info:
        folder.claim(tiny("model.vocab_size=5", override), "f")
    assert ("training.init_from" in str(info.value)) == works, info.value


LEFT = ("metrics.jsonl", "changes.jsonl", "tokenizer.json", "loss.png", "tensorboard/events", "checkpoints/10/params")


def leave(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("of the earlier start")


@pytest.mark.parametrize("left", [(), LEFT, ("checkpoints/10.orbax-checkpoint-tmp/junk",), ("checkpoints/10/meta",)])
def test_start_without_a_checkpoint_is_no_run(left, tiny, tmp_path):
    """The folder is anybody's, also of other sizes or data, and nothing of that start stays."""
    folder, other = RunFolder(tmp_path), tiny("model.vocab_size=7", "model.width=8", "training.optimizer=muon")
    folder.claim(tiny("model.vocab_size=5"), "f")
    leave(folder, *left, "diverged/3/report.json", "notes.txt")
    assert not folder.has_checkpoint() and "nothing was saved yet" in folder.after_stop()
    assert folder.claim(other, "g") == []
    assert folder.load_config() == other
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"config.json", "diverged/3/report.json", "notes.txt"}


def test_same_command_after_such_a_start_keeps_what_it_needs(tiny, tmp_path):
    folder = RunFolder(tmp_path)
    folder.claim(tiny("model.vocab_size=5"), "f")
    leave(folder, "tokenizer.json")
    assert folder.claim(tiny("model.vocab_size=5", "training.log_every=9"), "f") == []
    assert (tmp_path / "tokenizer.json").exists()


def test_what_may_be_a_run_is_never_taken_away(tiny, tmp_path):
    """A finished one, one whose checkpoints were set aside as damaged, and a folder of another program."""
    config, other = tiny("model.vocab_size=5"), tiny("model.vocab_size=5", "model.width=8")
    for name, mark in (("finished", "test_metrics.json"), ("damaged", "damaged/10/seal.json")):
        folder = RunFolder(tmp_path / name)
        folder.make()
        folder.claim(config, "f")
        leave(folder, mark, "metrics.jsonl")
        with pytest.raises(ConfigError, match=r"holds a run of another configuration .*; take another --workdir$"):
            folder.claim(other, "f")
        assert (folder / "metrics.jsonl").exists()
    foreign = RunFolder(tmp_path / "foreign")
    foreign.make()
    for text in ('{"hidden_size": 64}', '{"hidden_size": 64, "data_fingerprint": "f"}', "{}"):
        (foreign / "config.json").write_text(text)
        leave(foreign, "tokenizer.json")
        with pytest.raises(ConfigError, match="another --workdir"):
            foreign.claim(other, "f")
        assert (foreign / "config.json").read_text() == text and (foreign / "tokenizer.json").exists()


def test_fields_that_came_later_are_no_change(tiny, tmp_path):
    folder, config = RunFolder(tmp_path), tiny("model.vocab_size=5")
    folder.claim(config, "f")
    values = json.loads((tmp_path / "config.json").read_text())
    del values["training"]["max_spike"]
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert folder.claim(config, "f") == []
