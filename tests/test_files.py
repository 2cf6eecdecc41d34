from pathlib import Path

import pytest

from fftnet_jax.files import cache_dir, write_atomic


def test_cache_dir_order(monkeypatch, tmp_path):
    monkeypatch.setenv("FFTNET_JAX_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "own"
    monkeypatch.delenv("FFTNET_JAX_CACHE")
    assert cache_dir() == tmp_path / "xdg" / "fftnet_jax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_dir() == tmp_path / "home" / ".cache" / "fftnet_jax"
    assert not list(tmp_path.iterdir())  # asking makes nothing


def test_write_atomic_makes_folders_and_replaces(tmp_path):
    path = tmp_path / "a" / "b" / "file"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def fail(source, target):
        assert Path(source).read_bytes() == b"new"
        raise OSError("killed here")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="killed here"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
