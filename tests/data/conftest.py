from pathlib import Path

import pytest

from fftnet_jax.config import ConfigError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Every test has a cache of its own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("FFTNET_JAX_CACHE", str(folder))
    return folder


@pytest.fixture
def tinyshakespeare():
    """The text of tiny Shakespeare, where a copy lies beside the repository."""
    path = Path(__file__).parents[3] / "shared" / "data" / "tinyshakespeare.txt"
    if not path.is_file():
        pytest.skip("no copy of tiny Shakespeare beside the repository")
    return path.read_bytes()


@pytest.fixture
def refused():
    """Run a call that must raise ConfigError; gives its message, which must be one line."""

    def check(call, *args, **kwargs):
        with pytest.raises(ConfigError) as info:
            call(*args, **kwargs)
        message = str(info.value)
        assert message and "\n" not in message
        return message

    return check
