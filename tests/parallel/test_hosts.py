"""Two processes on one machine: the losses of one, and what each does when the other is gone."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from fftnet_jax.errors import ConfigError
from fftnet_jax.parallel.hosts import VARIABLES, Party, is_loss, party
from fftnet_jax.runs.folder import read_metrics
from fftnet_jax.training import train

ROOT = Path(__file__).resolve().parents[2]
GONE = 60  # seconds within which the other process must have noticed


@pytest.fixture
def start_both(experiment):
    """Starts two processes of a run; none of them outlives the test."""
    started = []

    def start(folder, *overrides):
        started.extend(both := _start_both(experiment, folder, *overrides))
        return both

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stderr.close()


def _start_both(experiment, folder, *overrides):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "train.py", "--config", experiment, "--workdir", str(folder)]
    command += [f"--config.{override}" for override in overrides]
    command += ["--coordinator", f"127.0.0.1:{port}", "--num_processes", "2", "--process_id"]
    options = {"cwd": ROOT, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return [subprocess.Popen([*command, str(index)], **options) for index in range(2)]


def wait_until_step(folder, step):
    file, end = folder / "metrics.jsonl", time.monotonic() + 600  # a busy machine takes minutes
    while not file.exists() or all(row["step"] < step for row in read_metrics(file)):
        assert time.monotonic() < end, "the run did not get anywhere"
        time.sleep(0.05)


def kill(folder, both, killed):
    """Kills one of two at step 22 or later; the other must end with a line that says so."""
    wait_until_step(folder, 22)
    both[killed].kill()
    _, said = both[1 - killed].communicate(timeout=GONE)
    assert both[1 - killed].returncode == 1, said
    assert "error: another process of this run is gone" in said.splitlines()[-1] and "Traceback" not in said


def test_first_is_killed(start_both, tmp_path):
    """A checkpoint every step: the kill meets one that is being committed."""
    kill(tmp_path / "run", start_both(tmp_path / "run", "training.checkpoint_every=1"), 0)


def test_second_is_killed_both_are_stopped_and_one_goes_on_alone(trained_alone, start_both, tiny, tmp_path):
    """The losses of a run of one process that nothing happened to."""
    (undisturbed, overrides), folder = trained_alone, tmp_path / "run"
    kill(folder, start_both(folder, *overrides, "mesh.fsdp=2"), 1)
    both = start_both(folder, *overrides, "mesh.fsdp=2")
    wait_until_step(folder, 28)
    both[1].send_signal(signal.SIGTERM)  # either may be asked
    said = [process.communicate(timeout=GONE)[1] for process in both]
    assert [process.returncode for process in both] == [130, 130], said
    assert "saved; the same command goes on from there" in said[0].splitlines()[-1]
    train(tiny(*overrides), folder)
    ours, theirs = read_metrics(folder / "metrics.jsonl"), read_metrics(undisturbed / "metrics.jsonl")
    assert [row["step"] for row in ours] == [row["step"] for row in theirs]
    for key in ("train/loss", "val/loss"):
        a, b = ([row[key] for row in rows if row.get(key) is not None] for rows in (ours, theirs))
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_loss_behind_a_timeout(monkeypatch):
    """As Orbax raises it where a commit waits for the one that is gone."""
    error = TimeoutError("Timed out while waiting for a barrier")
    error.__cause__ = RuntimeError("UNAVAILABLE: Socket closed")
    assert not is_loss(error), "a run of one process"
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert is_loss(error) and not is_loss(TimeoutError("Timed out"))


@pytest.mark.parametrize(
    "flags, words",
    [
        (("here:1", None, None), "--num_processes and --process_id must be set too where --coordinator is"),
        (("here", "2", "0"), "--coordinator must be HOST:PORT of the first process, got 'here'"),
        (("here:99999", "2", "0"), "--coordinator must be HOST:PORT"),
        (("here:1", "two", "0"), "--num_processes must be an integer of at least 1, got 'two'"),
        (("here:1", "2", "2"), r"--process_id must be in 0\.\.1, got 2"),
        (("here:1", "2", "-1"), "--process_id must be an integer of at least 0, got '-1'"),
    ],
)
def test_wrong_party(flags, words):
    with pytest.raises(ConfigError, match=words):
        party(False, *flags)


def test_party_from_the_environment(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert party(False, None, None, None) is None
    assert party(True, None, None, None) == Party()
    monkeypatch.setenv(VARIABLES[0], "10.0.0.1:1234")
    with pytest.raises(ConfigError, match="JAX_NUM_PROCESSES and JAX_PROCESS_ID must be set"):
        party(False, None, None, None)
    monkeypatch.setenv(VARIABLES[1], "4")
    monkeypatch.setenv(VARIABLES[2], "3")
    assert party(False, None, None, None) == Party("10.0.0.1:1234", 4, 3)
    assert party(False, "10.0.0.2:1234", "2", "1") == Party("10.0.0.2:1234", 2, 1), "flags come before"
    assert os.environ[VARIABLES[2]] == "3"


def test_sizes_that_do_not_fit_are_refused_by_both(start_both, tmp_path):
    both = start_both(tmp_path / "run", "model.width=1000000")
    for process in both:
        said = process.communicate(timeout=GONE)[1]
        assert process.returncode == 2 and "Traceback" not in said, said
        assert said.startswith("error: model.width must be lower, got 1000000: ") and said.count("\n") == 1, said
    assert not (tmp_path / "run").exists()


LONELY = """
import sys
from fftnet_jax.parallel import hosts
hosts.JOIN = 1
import train
sys.exit(train.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("number", [0, 1])
def test_others_that_never_come(number, experiment, tmp_path):
    """One line with the seconds that passed, in place of JAX's trace."""
    start = time.monotonic()
    argv = ["--config", experiment, "--workdir", str(tmp_path / "run"), "--num_processes=2", f"--process_id={number}"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-c", LONELY, *argv, "--coordinator", address]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    said = re.fullmatch(
        rf"error: --coordinator {address}: the other processes were not found in (\d+\.\d) s; start .*\n", done.stderr
    )
    assert said and 1 <= float(said[1]) <= time.monotonic() - start, done.stderr
    assert not (tmp_path / "run").exists()
