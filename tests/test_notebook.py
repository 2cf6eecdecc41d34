"""The notebook runs from a clean kernel, shrunk and without a network, and is kept without outputs."""

import json
import os
from pathlib import Path

import pytest

from fftnet_jax.errors import ConfigError
from fftnet_jax.interop.smollm2 import smollm2_path

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "fftnet_jax.ipynb"
SECONDS = 300  # for one cell; the whole takes a minute on a busy machine


@pytest.fixture
def teacher():
    """SmolLM2's file, in the user's cache or fetched into it."""
    try:
        return smollm2_path()
    except ConfigError as error:
        pytest.skip(str(error))


@pytest.fixture
def data_folder(tmp_path, text_file):
    """What the notebook otherwise downloads: a text and GSM8K's two files, made up."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "text.txt").write_text("ROMEO:\n" + 4 * text_file.read_text(encoding="utf-8"), encoding="utf-8")
    for name, count in (("train", 16), ("test", 6)):
        rows = [{"question": f"Ann has {a} apples?", "answer": f"{a}\n#### {a}"} for a in range(count)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_it_is_valid_and_has_no_outputs():
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(NOTEBOOK, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(cells) > 5
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)


def test_it_runs(teacher, data_folder, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    nbformat = pytest.importorskip("nbformat")
    for name, value in {
        "FFTNET_JAX_NOTEBOOK_SHRINK": "1",
        "FFTNET_JAX_NOTEBOOK_DATA": str(data_folder),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "PIP_NO_INDEX": "1",  # nothing may be installed beside the other tests
    }.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute(env=dict(os.environ))
    cells = {cell.id: cell for cell in notebook.cells if cell.cell_type == "code"}
    pictures = [name for name, cell in cells.items() if any("image/png" in out.get("data", {}) for out in cell.outputs)]
    assert pictures == ["curve", "filters", "distil-curve"]
    assert printed(cells["sample"]).startswith("ROMEO:\n") and len(printed(cells["sample"])) > len("ROMEO:\n\n")
    assert printed(cells["ask"]).startswith("Question: Ann has 12 apples")
    rows = (tmp_path / "runs" / "notebook" / "gsm8k" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(rows[-1])["train/kl"] > 0


def printed(cell):
    return "".join(out.text for out in cell.outputs if out.output_type == "stream" and out.name == "stdout")
