"""Files that once broke a reader: each is refused in one line, or read."""

import base64
import json
from pathlib import Path

import pytest

from fftnet_jax.errors import ConfigError
from reliability.fuzz import damaged
from reliability.fuzz_readers import READERS, copy

CASES = sorted((Path(__file__).parent / "fuzz").glob("*.json"))


@pytest.fixture(scope="session")
def sound(tmp_path_factory):
    """The folder of each reader's sound files. To be read, not changed."""
    folders = {}
    for name, (make, _) in READERS.items():
        folders[name] = tmp_path_factory.mktemp(name)
        make(folders[name])
    return folders


@pytest.mark.parametrize("name", READERS)
def test_sound_files_are_read(name, sound, tmp_path):
    copy(sound[name], tmp_path / "copy")
    READERS[name][1](tmp_path / "copy")


@pytest.mark.parametrize("case", CASES, ids=lambda file: file.stem)
def test_damage_is_refused_or_harmless(case, sound, tmp_path):
    found = json.loads(case.read_text())
    folder = tmp_path / "copy"
    copy(sound[found["reader"]], folder)
    (folder / found["file"]).write_bytes(base64.b64decode(found["data"]))
    try:
        READERS[found["reader"]][1](folder)
    except ConfigError as error:
        assert "\n" not in str(error)


def test_damage_is_the_same_for_the_same_seed():
    import random

    data = b'{"a": [1, 2, {"b": null}]}'
    runs = [[damaged(data, "x.json", random.Random(seed)) for seed in range(50)] for _ in range(2)]
    assert runs[0] == runs[1] and len(set(runs[0])) > 30


def test_cases_are_kept():
    assert len(CASES) >= 10
