import io
from types import SimpleNamespace

import pytest

from fftnet_jax.errors import ConfigError
from fftnet_jax.generation import read_prompts


@pytest.fixture
def stdin(monkeypatch):
    return lambda data: monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(data)))


def test_prompts_come_from_texts_file_and_standard_input(stdin, tmp_path):
    (tmp_path / "p").write_bytes("é\n\n".encode())
    assert read_prompts(["a", " b "], None) == ["a", " b "]
    assert read_prompts(["a"], str(tmp_path / "p")) == ["a", "é\n"]  # one line end is the editor's
    for file, texts in ((None, None), ("-", None), (None, [])):
        stdin(b"from a pipe\n")
        assert read_prompts(texts, file) == ["from a pipe"]


@pytest.mark.parametrize(
    "content, words",
    [(b"", "at least one character"), (b"\n", "at least one character"), (b"ab\xff", "UTF-8, and .* is not at byte 2")],
)
def test_wrong_files(content, words, stdin, tmp_path):
    (tmp_path / "p").write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        read_prompts(None, str(tmp_path / "p"))
    stdin(content)
    with pytest.raises(ConfigError, match=words):
        read_prompts(None, None)


@pytest.mark.parametrize(
    "texts, file, words",
    [
        ([""], None, "at least one character"),
        (["a", "\udcff"], None, "--prompt must be UTF-8"),
        (None, "/nowhere/at/all", "No such file"),
        (None, "/", "directory"),
    ],
)
def test_wrong_arguments(texts, file, words):
    with pytest.raises(ConfigError, match=words):
        read_prompts(texts, file)
