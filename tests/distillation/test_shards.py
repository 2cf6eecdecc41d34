"""Teacher shards: what is in them, and that kills, other data and damage don't go unseen."""

import dataclasses
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fftnet_jax.config import load_config
from fftnet_jax.distillation import load_teacher, shards
from fftnet_jax.distillation.manifest import read_manifest
from fftnet_jax.distillation.targets import ShardGuide, build_guide
from fftnet_jax.errors import ConfigError
from fftnet_jax.runs.folder import read_metrics
from fftnet_jax.tasks import load_dataset
from fftnet_jax.training import train


@pytest.fixture(scope="session")
def written(student, tmp_path_factory, as_shipped):
    """`written(k)`: the configuration to train from a finished folder of shards with top k. Not to be changed."""
    done = {}

    def get(top_k, temperature=2.0):
        if (top_k, temperature) not in done:
            folder = tmp_path_factory.mktemp("shards") / "folder"
            flags = [f"distillation.shards={folder}", f"distillation.top_k={top_k}"]
            config = load_config(str(student), [*flags, f"distillation.temperature={temperature}"])
            with as_shipped():
                assert shards.write(config) == 0
            done[top_k, temperature] = config
        return done[top_k, temperature]

    return get


def files(folder):
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def copy_of(config, tmp_path):
    """The configuration with a copy of its shards that a test may damage."""
    folder = tmp_path / "copy"
    shutil.copytree(config.distillation.shards, folder)
    distillation = dataclasses.replace(config.distillation, shards=str(folder))
    return dataclasses.replace(config, distillation=distillation), folder


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_records_are_the_teachers_distribution(written, temperature):
    config = written(7, temperature)
    dataset = load_dataset(config.data)
    model, params, _ = load_teacher(config.distillation.teacher)
    batch = ShardGuide(config, dataset).dataset.train.batch(np.arange(3))
    logits = np.asarray(model.apply({"params": params}, batch["inputs"])[..., :256], np.float64)  # bytes
    logps = logits / temperature
    logps -= np.log(np.exp(logps).sum(axis=-1, keepdims=True))
    for row, length in enumerate(dataset.train.lengths[:3]):
        ids, kept = batch["teacher_ids"][row, :length], batch["teacher_logps"][row, :length]
        wanted = np.take_along_axis(logps[row, :length], ids, axis=-1)
        np.testing.assert_allclose(kept, wanted, atol=2e-5)
        np.testing.assert_array_less(np.sort(logps[row, :length])[:, -8], kept.min(axis=-1) + 1e-6)
        np.testing.assert_allclose(np.exp(batch["teacher_tail"][row, :length]), 1 - np.exp(wanted).sum(-1), atol=1e-5)


def test_manifest_names_what_the_numbers_depend_on(written):
    folder = Path(written(7).distillation.shards)
    manifest = read_manifest(folder)
    assert manifest.complete and len(manifest.shards) == 7  # 32 rows, 5 a file
    sizes = {file.name: file.stat().st_size for file in folder.glob("*.bin")}
    assert sizes == {s.file: sum(s.tokens) * (12 + 7 * 6) for s in manifest.shards}
    assert not [name for name in json.loads((folder / "manifest.json").read_text()) if "time" in name]


def test_full_shards_train_as_the_teacher_itself(written, student, tmp_path):
    """32 problems, all logits: the same losses, online and from shards."""
    online = load_config(str(student))
    rows = {}
    for name, config in (("online", online), ("shards", written(0))):
        train(config, tmp_path / name)
        rows[name] = read_metrics(tmp_path / name / "metrics.jsonl")
    for key in ("train/loss", "train/kl", "train/cross_entropy"):
        ours, theirs = ([row[key] for row in rows[name]] for name in ("online", "shards"))
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    assert rows["online"][0]["train/kl"] > 0.01


@pytest.mark.as_shipped
def test_killed_writer_goes_on(written, student, tmp_path):
    config = written(7)
    folder = tmp_path / "killed"
    command = [sys.executable, "-m", "fftnet_jax.distillation.shards", "--config", str(student)]
    command += [f"--config.distillation.shards={folder}", "--config.distillation.top_k=7"]
    rng, hits = random.Random(0), 0
    for _ in range(3):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        started = time.monotonic()
        while not list(folder.glob("*.bin")) and process.poll() is None and time.monotonic() - started < 60:
            time.sleep(0.01)
        time.sleep(rng.random() * 0.05)
        hits += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        (folder / "shard-00001.bin.left").write_bytes(b"half")  # as of a kill while writing
    subprocess.run(command, check=True, capture_output=True)
    assert files(folder) == files(Path(config.distillation.shards))
    assert hits


@pytest.mark.as_shipped
def test_unfinished_shards_are_refused_and_finished(written, tmp_path):
    config, folder = copy_of(written(7), tmp_path)
    values = json.loads((folder / "manifest.json").read_text())
    values["shards"] = values["shards"][:3]
    (folder / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match="hold 15 of 32 rows"):
        build_guide(config, load_dataset(config.data))
    assert shards.write(config) == 0
    assert files(folder) == files(Path(written(7).distillation.shards))


@pytest.mark.parametrize("place", [0, 1000, -1])
def test_flipped_byte_is_found(place, written, tmp_path):
    config, folder = copy_of(written(7), tmp_path)
    data = bytearray((folder / "shard-00002.bin").read_bytes())
    data[place] ^= 1
    (folder / "shard-00002.bin").write_bytes(data)
    with pytest.raises(ConfigError, match=r"shard-00002.bin is damaged"):
        build_guide(config, load_dataset(config.data))


@pytest.mark.parametrize(
    "override, field",
    [("data.num_problems=31", "data"), ("data.length=60", "length"), ("data.tokenizer=char", "data|vocab_size")],
)
def test_other_data_is_refused_with_both_values(override, field, written, student):
    flags = [f"distillation.shards={written(7).distillation.shards}", override]
    config = load_config(str(student), flags)
    with pytest.raises(ConfigError, match=f"are for another ({field}).* there, .* here") as caught:
        build_guide(config, load_dataset(config.data))
    assert len(re.findall("there|here", str(caught.value))) >= 2


def test_temperature_that_the_numbers_do_not_determine(written, student):
    flags = [f"distillation.shards={written(7).distillation.shards}", "distillation.temperature=3.0"]
    config = load_config(str(student), flags)
    with pytest.raises(ConfigError, match="temperature must be 1 or 2"):
        build_guide(config, load_dataset(config.data))


def test_temperature_one_is_determined_by_any(written, student):
    """The stored log-probabilities are those at 1, whatever T the shards were written for."""
    flags = [f"distillation.shards={written(7).distillation.shards}", "distillation.temperature=1.0"]
    config = load_config(str(student), flags)
    dataset = load_dataset(config.data)
    ours = build_guide(config, dataset).dataset.train.batch(np.arange(2))
    wanted = build_guide(written(7, 1.0), dataset).dataset.train.batch(np.arange(2))
    real = ours["inputs"] > 0
    for name in ("teacher_logps", "teacher_tail"):
        np.testing.assert_allclose(ours[name][real], wanted[name][real], atol=2e-5)


def test_other_settings_in_the_folder_are_refused_by_the_writer(written, student):
    folder = written(7).distillation.shards
    config = load_config(str(student), [f"distillation.shards={folder}", "distillation.top_k=8"])
    with pytest.raises(ConfigError, match="another top_k: 7 there, 8 here"):
        shards.write(config)


@pytest.mark.parametrize("name", ["teacher", "shards"])
def test_writer_needs_a_teacher_and_a_folder(name, student, capsys):
    flags = ["--config.distillation.shards=somewhere", f"--config.distillation.{name}="]
    assert shards.main(["--config", str(student), *flags]) == 2
    assert f"distillation.{name} must be set" in capsys.readouterr().err
