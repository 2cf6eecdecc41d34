"""What a signal does to the program as shipped, where its main thread does not come back to Python."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# train.py whose init, or whose step after step 12, waits in C: with Python's lock, where no other thread runs, or not.
STUCK = """
import ctypes, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which is ignored in a shell's background
import train
from fftnet_jax.training import loop, setup
def wait(*args, **kwargs):
    print("waiting", file=sys.stderr, flush=True)
    mutex = ctypes.create_string_buffer(64)
    for _ in range(2):  # the second time it waits for ever; unlike `sleep`, signals don't end that
        ctypes.{library}(None).pthread_mutex_lock(mutex)
if {place!r} == "init":
    setup.init_state = wait
else:
    report = loop.report
    loop.report = lambda run, calls, done, *rest: wait() if done.step == 12 else report(run, calls, done, *rest)
sys.exit(train.main(sys.argv[1:]))
"""


@pytest.fixture
def stuck(experiment, tmp_path):
    """Starts a program that waits in C, in a shell's foreground; it does not outlive the test."""
    started = []

    def start(library, place, *flags):
        source = STUCK.format(library=library, place=place)
        command = [sys.executable, "-c", source, "--config", experiment, "--workdir", str(tmp_path / "run"), *flags]
        program = start_program(command)
        started.append(program)
        while not (line := program.stderr.readline()).endswith("waiting\n"):  # after a progress bar
            assert line, "it ended before it waited"
        time.sleep(0.2)
        return program

    yield start
    for program in started:
        program.kill()
        program.wait()
        program.stderr.close()


def start_program(command):
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def end(program):
    """Seconds until it ended, its status, and what it said."""
    start = time.monotonic()
    said = program.communicate(timeout=60)[1]
    return time.monotonic() - start, program.returncode, said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_wait_before_the_first_step_ends_at_the_first_signal(number, stuck, tmp_path):
    program = stuck("CDLL", "init")
    program.send_signal(number)
    seconds, status, said = end(program)
    assert (status, seconds < 10) == (130, True), said
    assert said.splitlines()[-1] == "stopped; nothing was saved yet, the same command starts anew"


@pytest.mark.parametrize("numbers", [(signal.SIGINT,) * 2, (signal.SIGTERM,) * 2])
@pytest.mark.parametrize("place", ["init", "step"])
def test_wait_that_holds_python_ends_at_the_second_signal(place, numbers, stuck):
    program = stuck("PyDLL", place)
    program.send_signal(numbers[0])
    time.sleep(0.3)
    assert program.poll() is None
    program.send_signal(numbers[1])
    seconds, status, _ = end(program)
    assert (status, seconds < 5) == (-numbers[1], True)


@pytest.mark.parametrize("numbers", [(signal.SIGINT, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT)])
def test_wait_in_a_step_ends_at_a_second_signal_of_either_kind(numbers, stuck, tmp_path):
    """The first one waits for the step, which is to be saved."""
    program = stuck("CDLL", "step")
    program.send_signal(numbers[0])
    time.sleep(4)
    assert program.poll() is None
    program.send_signal(numbers[1])
    seconds, status, _ = end(program)
    assert (status, seconds < 5) == (-numbers[1], True)
    assert (tmp_path / "run" / "checkpoints" / "10").is_dir()


def test_stop_before_the_first_checkpoint_leaves_a_folder_for_the_corrected_command(stuck, experiment, tmp_path):
    program, folder = stuck("CDLL", "init"), tmp_path / "run"
    program.send_signal(signal.SIGINT)
    end(program)
    (folder / "metrics.jsonl").write_text('{"step": 1, "train/loss": 1.0}\n')
    command = [sys.executable, "train.py", "--config", experiment, "--workdir", str(folder)]
    command += ["--config.model.width=8", "--config.training.num_steps=2", "--config.training.log_every=2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "config.json").read_text())["model"]["width"] == 8
    assert [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()] == [2]


SLEEPER = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
import generate
from fftnet_jax.cli import generate as command
def wait(*_):
    print("waiting", file=sys.stderr, flush=True)
    time.sleep(600)
command.load_decoder = wait
sys.exit(generate.main(["--workdir", "x", "--prompt", "a"]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_generate_ends_with_130(number):
    program = start_program([sys.executable, "-c", SLEEPER])
    assert program.stderr.readline() == "waiting\n"
    program.send_signal(number)
    seconds, status, said = end(program)
    assert (status, said.split(), seconds < 2) == (130, ["stopped"], True)


def test_handlers_are_put_back():
    from fftnet_jax.config.command_line import run_command

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        assert run_command(lambda: 7, "stopped") == 7
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
        with pytest.raises(KeyboardInterrupt):  # and it is no handler for once
            os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("program", ["train.py", "generate.py"])
def test_stop_during_imports_is_one_line(program, tmp_path):
    """Ctrl-C while JAX is being imported, which a package of its name stands for."""
    (tmp_path / "jax.py").write_text("raise KeyboardInterrupt")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, program], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped\n")
