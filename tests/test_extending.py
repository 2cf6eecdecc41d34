"""docs/extending.md does what it says: its files, put where it says, and its programs run. What docs name is there."""

import importlib.util
import json
import re
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from fftnet_jax import mixers, ops, tasks
from fftnet_jax.config.data import SOURCES
from fftnet_jax.config.model import CHECKS, MIXERS, SPLIT_CHECKS, ModelConfig
from fftnet_jax.mixers.base import _CLASSES
from fftnet_jax.ops import gpu
from fftnet_jax.tasks.base import _TASKS

ROOT = Path(__file__).parents[1]
PAGES = {file.name: file.read_text(encoding="utf-8") for file in (ROOT / "README.md", *ROOT.glob("docs/*.md"))}
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGES["extending.md"], flags=re.M | re.S))
LONGEST = 60  # lines of a file


def code(title):
    """The files of a section, by path, and its programs."""
    files = dict(re.findall(r"^`(\S+\.py)`:\n\n```python\n(.*?)^```", SECTIONS[title], flags=re.M | re.S))
    blocks = re.findall(r"^```python\n(.*?)^```", SECTIONS[title], flags=re.M | re.S)
    return files, [block for block in blocks if block not in files.values()]


@pytest.fixture
def registries():
    """Gives back what a new mixer adds."""
    held = (_CLASSES, MIXERS, CHECKS, SPLIT_CHECKS, ModelConfig.__dataclass_fields__, _TASKS, SOURCES, sys.modules)
    held = (*held, ops.short_convolution._forms)
    before = [dict(registry) for registry in held]
    yield
    for registry, content in zip(held, before, strict=True):
        for name in registry.keys() - content.keys():
            del registry[name]


@pytest.mark.parametrize("page", PAGES)
def test_paths_and_modules_are_there(page):
    new = {path for title in SECTIONS for path in code(title)[0]}
    rooms = r"\b(?:fftnet_jax|tests|experiments|benchmarks|studies|reliability)"
    paths = {path.rstrip("./") for path in re.findall(rf"{rooms}/[\w/.]+", PAGES[page])}
    assert [path for path in paths - new if not (ROOT / path).exists()] == []
    modules = set(re.findall(rf"python -m ({rooms}\.[\w.]+)", PAGES[page]))
    assert [name for name in modules if not name.endswith(".NAME") and not importlib.util.find_spec(name)] == []


def test_files_are_short():
    files = {path: text for title in SECTIONS for path, text in code(title)[0].items()}
    assert files and all(text.count("\n") < LONGEST for text in files.values())


@pytest.fixture
def added(registries, experiment, tmp_path, monkeypatch):
    """`added("Add a mixer", mixers)`: puts a section's file into its folder and runs its program; its names."""

    def add(title, package):
        files, (program,) = code(title)
        ((path, text),) = files.items()
        (tmp_path / Path(path).name).write_text(text, encoding="utf-8")
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])  # as if it lay in its folder
        exec(Path(package.__file__).read_text(), {"__name__": package.__name__, "__path__": package.__path__})
        (tmp_path / "experiments").mkdir()
        text = Path(experiment).read_text()
        if package is tasks:  # which brings its own data
            text = text.replace("config.data.text_file =", "config.data.folder =")
        (tmp_path / "experiments/shakespeare.py").write_text(text)
        monkeypatch.chdir(tmp_path)
        found = {}
        exec(compile(program, "docs/extending.md", "exec"), found)
        return found

    return add


def test_task(added, capsys):
    figures = added("Add a task", tasks)["figures"]
    assert 0 <= figures["perfect_rows"] <= 1 and figures["tokens"] > 0
    rows = [json.loads(line) for line in Path("runs/reversal/metrics.jsonl").read_text().splitlines()]
    assert "val/perfect_rows" in rows[-1]


def test_implementation(added):
    found = added("Add an implementation", gpu)
    assert ops.short_convolution.form("gpu").__name__ == "convolve", "the new one runs"
    np.testing.assert_allclose(found["found"], found["wanted"], atol=1e-4)


def test_mixer(added, capsys):
    found = added("Add a mixer", mixers)
    assert capsys.readouterr().out.splitlines()[-1].startswith("ROMEO:")

    run, variables = found["run"], {"params": found["run"].params}
    ids_BN = np.random.default_rng(0).integers(0, run.tokenizer.vocab_size, (2, 9))
    whole_BNV = jax.jit(run.model.apply)(variables, ids_BN)
    step = jax.jit(partial(run.model.apply, method="step"))
    cache = run.model.init_cache(2, 9)
    for place in range(9):
        logits_BV, cache = step(variables, ids_BN[:, place], cache)
        np.testing.assert_allclose(logits_BV, whole_BNV[:, place], atol=1e-5)
