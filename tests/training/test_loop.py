"""Runs from start to end: the same figures however often a run is stopped, and everything that a run leaves."""

import contextlib
import errno
import itertools
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from fftnet_jax.errors import ConfigError
from fftnet_jax.parallel.hosts import Vote
from fftnet_jax.runs.checkpoints import Checkpoints
from fftnet_jax.runs.folder import RunFolder
from fftnet_jax.runs.lock import Lock
from fftnet_jax.tasks import load_dataset
from fftnet_jax.training import Callback, Diverged, Interrupted, StorageError, load, loop, setup, train

pytestmark = pytest.mark.as_shipped  # the same to the bit is a claim on optimised programs
ROOT = Path(__file__).parents[2]
MUON = (
    "training.optimizer=muon",
    "training.accumulation=2",
    "model.num_layers=2",
    "model.mixer=causal_stft,attention",
    "data.tokenizer=byte",
    "training.histogram_every=0",
)
# Trains like train.py, and kills itself without a warning once the numbers of step 22 are written.
KILLED = """
import os, signal, sys
import train
from fftnet_jax.training import Callback, loop
class Death(Callback):
    def report(self, run, done):
        if done.step == 22:
            run.checkpoints.wait()
            os.kill(os.getpid(), signal.SIGKILL)
standard_callbacks = loop.standard_callbacks
loop.standard_callbacks = lambda run: [*standard_callbacks(run), Death()]
train.main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def trained_muon(trained_with):
    return trained_with("trained_muon", MUON)


def rows_of(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        del row["tokens_per_second"]
    return rows


def state_of(folder):
    """Bytes of everything in the last checkpoint's parameters, and in the best one's."""
    runs = [load(folder, which) for which in ("latest", "best")]
    return [(run.step, [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(run.params)]) for run in runs]


def assert_same_run(folder, undisturbed):
    assert rows_of(folder) == rows_of(undisturbed)
    assert state_of(folder) == state_of(undisturbed)
    for name in ("test_metrics.json", "config.json", "tokenizer.json"):
        assert (folder / name).read_text() == (undisturbed / name).read_text()


@pytest.mark.parametrize("fixture, overrides", [("trained", ()), ("trained_muon", MUON)])
def test_killed_run_goes_on_as_if_nothing_happened(fixture, overrides, experiment, tiny, tmp_path, request):
    undisturbed, folder = request.getfixturevalue(fixture), tmp_path / "run"
    flags = [f"--config.{override}" for override in overrides]
    command = [sys.executable, "-c", KILLED, "--config", experiment, "--workdir", str(folder), *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert rows_of(folder)[-1]["step"] == 22
    # What a kill in the middle of writing leaves: half a line, and half a checkpoint.
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 24, "train/lo')
    half = folder / "checkpoints" / "24.orbax-checkpoint-tmp"
    half.mkdir()
    (half / "junk").write_text("junk")
    train(tiny(*overrides), folder)
    assert_same_run(folder, undisturbed)
    assert not half.exists()


def test_interrupted_run_goes_on_as_if_nothing_happened(trained, tiny, tmp_path):
    plan = {13: signal.SIGINT, 30: signal.SIGTERM}

    class Signals(Callback):
        def after_step(self, run, done):
            if done.step in plan:
                os.kill(os.getpid(), plan.pop(done.step))

    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    folder = tmp_path / "run"
    # Step 13 is reported while 14 is under way. 30 evaluates and is reported in place: the signal counts for step 31.
    for step, overrides in ((14, ("training.log_every=3",)), (31, ())):
        with pytest.raises(Interrupted, match=f"after step {step}, saved"):
            train(tiny(*overrides, "training.log_every=2"), folder, callbacks=[Signals()])
        assert (folder / "checkpoints" / str(step)).is_dir()
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    train(tiny(), folder)
    assert_same_run(folder, trained)


def test_layers_may_be_scanned_from_here_on_and_back(trained_with, tiny, tmp_path, monkeypatch):
    deep, folder = ("model.num_layers=2",), tmp_path / "run"
    undisturbed = trained_with("trained_deep", deep)
    for scanned, stop in ((False, 10), (True, 10), (False, None)):
        calls = itertools.count(1)
        with monkeypatch.context() as patch, pytest.raises(Interrupted) if stop else contextlib.nullcontext():
            patch.setattr(Vote, "__call__", lambda vote, asked: next(calls) == stop)  # noqa: B023
            train(tiny(*deep, f"model.scan_layers={scanned}"), folder)
    for ours, theirs in zip(rows_of(folder), rows_of(undisturbed), strict=True):
        assert ours.keys() == theirs.keys()
        np.testing.assert_allclose([*ours.values()], [*theirs.values()], rtol=1e-4)


def test_everything_is_there(trained):
    for name in ("config.json", "metrics.jsonl", "loss.png", "filters.png", "test_metrics.json", "tokenizer.json"):
        assert (trained / name).stat().st_size > 0, name
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    keys = {"step", "train/loss", "learning_rate", "grad_norm", "skipped", "tokens_per_second"}
    evaluated = {"val/loss", "val/accuracy"}
    assert [row["step"] for row in rows] == sorted({*range(2, 41, 2), 15})
    for row in rows:
        assert set(row) == (keys | evaluated if row["step"] in (15, 30, 40) else keys)
        assert all(math.isfinite(value) for value in row.values())
        assert row["tokens_per_second"] > 0
    assert rows[-1]["val/loss"] < rows[0]["train/loss"] - 0.1, "nothing was learned"
    steps = {int(path.name) for path in (trained / "checkpoints").iterdir()}
    assert {30, 40} <= steps
    assert len(steps) <= 3
    assert not list(trained.glob("**/.*")), "temporary files were left"


def test_finished_run_says_so_and_changes_nothing(trained_copy, tiny, capsys):
    def contents():
        files = [path for path in trained_copy.rglob("*") if path.is_file() and "tensorboard" not in path.parts]
        return {path: path.read_bytes() for path in files if path.suffix != ".png"}

    before = contents()
    figures = train(tiny("training.log_every=7"), trained_copy)  # log_every may differ: it only chooses rows
    out, err = capsys.readouterr()
    assert "is finished, all 40 steps" in err
    assert figures["loss"] == json.loads((trained_copy / "test_metrics.json").read_text())["loss"]
    assert out.strip()
    train(tiny(), trained_copy)
    assert contents() == before


def test_other_configuration_is_refused_with_both_values(trained_copy, tiny, text_file, tmp_path):
    with pytest.raises(ConfigError, match=r"data\.length: 16 there, 8 here"):
        train(tiny("data.length=8"), trained_copy)
    other = tmp_path / "other.txt"
    other.write_text(text_file.read_text()[:-5] + "sat a")
    with pytest.raises(ConfigError, match=r"another configuration .*data_fingerprint: "):
        train(tiny(f"data.text_file={other}"), trained_copy)
    moved = shutil.copy(text_file, tmp_path / "moved.txt")
    train(tiny(f"data.text_file={moved}"), trained_copy)  # the same text elsewhere is the same run


def test_init_from_starts_from_the_best_parameters_of_another_run(trained, tiny, tmp_path):
    loss = json.loads((trained / "test_metrics.json").read_text())["loss"]
    overrides = (
        f"training.init_from={trained}",
        "training.num_steps=1",
        "training.learning_rate=1e-12",
        "training.eval_every=0",
        "training.checkpoint_every=0",
        "training.num_steps=1",
    )
    figures = train(tiny(*overrides), tmp_path / "next")
    assert figures["loss"] == pytest.approx(loss, rel=1e-5)
    for wrong, words in (
        ((f"training.init_from={trained}", "model.width=8"), "same model sizes"),
        (("training.init_from=/nowhere",), "training.init_from: .*/nowhere has no config.json"),
    ):
        with pytest.raises(ConfigError, match=words):
            train(tiny(*wrong), tmp_path / "wrong")
        assert not (tmp_path / "wrong").exists()


def test_divergence_stops_with_a_diagnosis_and_keeps_good_parameters(tiny, tmp_path):
    folder = tmp_path / "run"
    overrides = ("training.learning_rate=1e30", "training.clip_norm=0", "training.max_skipped=3")
    with pytest.raises(Diverged, match="3 updates in a row skipped up to step") as info:
        train(tiny(*overrides, "training.log_every=1", "training.checkpoint_every=2"), folder)
    assert "training.learning_rate" in str(info.value)
    assert "\n" not in str(info.value)
    text = (folder / "metrics.jsonl").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    rows = [json.loads(line) for line in text.splitlines()]
    assert [row["skipped"] for row in rows] == [0, 1, 2], "the row of a step counts the losses up to that step"
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(load(folder, "latest").params))
    (place,) = (folder / "diverged").iterdir()
    assert json.loads((place / "report.json").read_text())["step"] == int(place.name) == 4
    with np.load(place / "batch.npz") as batch:
        assert batch["inputs"].shape == (4, 16)
    assert (place / "state").is_dir()


class Keeper(Callback):
    """Keeps the run to look at."""

    def after_run(self, run, figures):
        self.run = run


def test_step_compiles_once_and_steps_are_counted_exactly(tiny, tmp_path):
    keeper, steps = Keeper(), ("training.num_steps=5", "training.eval_every=0", "training.checkpoint_every=0")
    train(tiny(*steps), tmp_path / "run", callbacks=[keeper])
    assert keeper.run.setup.train_step._cache_size() == 1
    assert int(keeper.run.state.step) == 5
    rows = rows_of(tmp_path / "run")
    assert [row["step"] for row in rows] == [2, 4, 5]
    assert [row["step"] for row in rows if "val/loss" in row] == [5]
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["5"]


def test_epochs_become_steps(tiny):
    config = tiny("training.num_epochs=1.5", "training.eval_every_epochs=0.5", "data.stride=16")
    dataset = load_dataset(config.data)
    per_epoch = len(dataset.train) // 4
    training = setup.resolve(config, dataset).training
    assert training.num_steps == round(1.5 * per_epoch)
    assert training.eval_every == round(0.5 * per_epoch)


def test_a_spike_is_skipped_and_counted(tiny, tmp_path, monkeypatch):
    make = setup.train_batches

    def spiked(*args):  # the targets of step 28 come from nowhere
        for step, batch in enumerate(make(*args), 1):
            yield {**batch, "targets": 0 * batch["targets"] + 24} if step == 28 else batch

    monkeypatch.setattr(setup, "train_batches", spiked)
    monkeypatch.setattr(Checkpoints, "save", lambda *_: None)
    monkeypatch.setattr(loop, "finish", lambda run, callbacks: run.state)
    steps = ("training.num_steps=30", "training.eval_every=0", "training.checkpoint_every=0", "training.log_every=1")
    for limit, skipped in ((0.5, 1), (0, 0)):
        state = train(tiny(*steps, f"training.max_spike={limit}"), tmp_path / str(limit))
        assert int(state.skipped) == skipped
        assert [row["skipped"] for row in rows_of(tmp_path / str(limit))] == [0] * 27 + [skipped] * 3


def test_second_live_run_is_refused_and_a_dead_one_blocks_nobody(tiny, tmp_path):
    with Lock(tmp_path):
        with pytest.raises(ConfigError, match=rf"in use by a live run \(process {os.getpid()}\)"):
            train(tiny(), tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["lock"], "something was written"
    assert not list(tmp_path.iterdir())
    (tmp_path / "lock").write_text("1\n")  # as a killed run leaves it
    with Lock(tmp_path):
        pass


def test_full_disk_is_one_line_and_what_was_saved_stays(trained, tiny, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    add, full = RunFolder.add_metrics, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def add_until_full(self, row):
        if row["step"] == 22:
            with (self / "metrics.jsonl").open("a") as file:
                file.write('{"step": 2')
            raise full
        add(self, row)

    monkeypatch.setattr(RunFolder, "add_metrics", add_until_full)
    with pytest.raises(StorageError, match="run can't be written: No space left on device"):
        train(tiny(), folder)
    monkeypatch.undo()
    train(tiny(), folder)
    assert_same_run(folder, trained)


def test_accepted_changes_go_on_from_the_checkpoint(trained_copy, tiny, capsys):
    train(tiny("training.num_steps=42", "data.batch_size=8"), trained_copy, accept_changes=True)
    err = capsys.readouterr().err
    assert "accepted change of data.batch_size: 4 there, 8 here" in err and "after step 40 of 42" in err
    assert [row["step"] for row in rows_of(trained_copy)][-2:] == [40, 42]
