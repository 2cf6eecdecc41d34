"""A program that starts anew for the sake of larger pages."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from fftnet_jax import huge_pages

PROGRAM = """
import os, sys
from pathlib import Path
from fftnet_jax import huge_pages

huge_pages.GRANTED = Path({granted!r})
os.confstr = lambda name: "glibc 2.36"
print(os.getpid(), os.environ.get("GLIBC_TUNABLES"), sys.argv[1:], sys.flags.dev_mode, flush=True)
{before}
huge_pages.restart()
print("on")
"""


@pytest.fixture
def granted(tmp_path, monkeypatch):
    """Pretends that the system hands out large pages to those who ask, with a new C library."""
    path = tmp_path / "enabled"
    path.write_text("always [madvise] never\n")
    monkeypatch.setattr(huge_pages, "GRANTED", path)
    monkeypatch.setattr(os, "confstr", lambda name: "glibc 2.36", raising=False)
    return path


def test_only_where_it_helps(granted):
    assert huge_pages.can_help({})
    assert huge_pages.can_help({"GLIBC_TUNABLES": "glibc.malloc.check=1"})
    assert not huge_pages.can_help({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"})
    anew = huge_pages.environment({})
    assert not huge_pages.can_help(anew)
    del anew["GLIBC_TUNABLES"]  # as some systems do
    assert not huge_pages.can_help(anew)
    for word in ("[always] madvise never", "always madvise [never]"):
        granted.write_text(word)
        assert not huge_pages.can_help({})
    granted.unlink()
    assert not huge_pages.can_help({})


@pytest.mark.parametrize("library", ["glibc 2.34", "glibc 1.99", "", None])
def test_not_with_another_library(granted, monkeypatch, library):
    monkeypatch.setattr(os, "confstr", lambda name: library, raising=False)
    assert not huge_pages.can_help({})


def test_other_settings_stay():
    environ = {"HOME": "/", "GLIBC_TUNABLES": "glibc.malloc.check=1"}
    wanted = {"HOME": "/", "GLIBC_TUNABLES": "glibc.malloc.check=1:glibc.malloc.hugetlb=1"}
    assert huge_pages.environment(environ) == wanted | {huge_pages.MARK: "1"}


def test_train_py_restarts(tmp_path):
    patch = "from fftnet_jax import huge_pages\nhuge_pages.restart = lambda: print('restarts')\n"
    (tmp_path / "sitecustomize.py").write_text(patch)
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, str(Path(__file__).parents[1] / "train.py"), "--help"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("restarts\nusage:")


def run(path, granted, before="", tunables=None):
    path.write_text(PROGRAM.format(granted=str(granted), before=before))
    environ = {key: value for key, value in os.environ.items() if key not in ("GLIBC_TUNABLES", huge_pages.MARK)}
    environ |= {"GLIBC_TUNABLES": tunables} if tunables else {}
    command = [sys.executable, "-X", "dev", str(path), "--text", "two words"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="there is nothing to restart for")
def test_starts_anew_once_as_the_same_process(granted, tmp_path):
    first, second, *rest = run(tmp_path / "program.py", granted)
    process, _, arguments = first.partition(" None ")
    assert second == f"{process} glibc.malloc.hugetlb=1 {arguments}"
    assert arguments == "['--text', 'two words'] True"
    assert rest == ["on"]


@pytest.mark.parametrize(
    "before, tunables",
    [
        ("", "glibc.malloc.hugetlb=0"),
        ("sys.argv = ['notebook.py']", None),
        ("sys.argv[-1] = 'other'", None),
        ("os.remove(sys.argv[0])", None),
        ("sys.settrace(lambda *_: None)", None),
        ("sys.executable = '/nowhere'", None),
    ],
)
def test_goes_on_where_it_must_not(granted, tmp_path, before, tunables):
    assert run(tmp_path / "program.py", granted, before, tunables)[1:] == ["on"]
