"""Runs and parameters of an earlier version (`tests/golden/write_runs.py`): they open, and train as they did."""

import importlib.util
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

import fftnet_jax
from fftnet_jax.runs.folder import read_metrics

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
spec = importlib.util.spec_from_file_location("write_runs", GOLDEN / "write_runs.py")
write_runs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(write_runs)


@pytest.fixture
def unpacked(tmp_path):
    def unpack(name):
        shutil.unpack_archive(GOLDEN / "runs" / f"{name}.zip", tmp_path / name)
        return tmp_path / name

    return unpack


@pytest.mark.parametrize("name", write_runs.RUNS)
def test_an_old_run_opens_with_the_same_logits(name, unpacked):
    folder = unpacked(name)
    golden, run = np.load(folder / "golden.npz"), fftnet_jax.load(folder, "latest")
    logits = np.asarray(jax.jit(run.model.apply)({"params": run.params}, golden["ids"]))
    np.testing.assert_allclose(logits, golden["logits"], atol=1e-5 * np.abs(golden["logits"]).max())


@pytest.mark.parametrize("name", write_runs.RUNS)
def test_the_same_command_trains_to_the_same_losses(name, unpacked, tmp_path):
    folder, text_file = unpacked(name), tmp_path / "text.txt"
    text_file.write_text(write_runs.text(), encoding="utf-8")
    figures = fftnet_jax.train(write_runs.config_of(name, text_file), tmp_path / "new")
    old, new = (read_metrics(path / "metrics.jsonl") for path in (folder, tmp_path / "new"))
    for key in ("train/loss", "val/loss", "grad_norm", "learning_rate"):
        a, b = ([row[key] for row in rows if key in row] for rows in (old, new))
        np.testing.assert_allclose(b, a, rtol=1e-4, err_msg=key)
    np.testing.assert_allclose(figures["loss"], np.load(folder / "golden.npz")["loss"], rtol=1e-4)


def test_an_old_run_goes_on(unpacked, tmp_path):
    folder, text_file = unpacked("flagship"), tmp_path / "text.txt"
    text_file.write_text(write_runs.text(), encoding="utf-8")
    (folder / "checkpoints" / "12" / "seal.json").unlink()  # as if it had been killed while it wrote the last one
    fftnet_jax.train(write_runs.config_of("flagship", text_file), folder)
    assert [row["step"] for row in read_metrics(folder / "metrics.jsonl")] == list(range(1, 13))


@pytest.mark.parametrize("name", write_runs.TREES)
def test_parameters_are_as_they_were(name):
    wanted = json.loads((GOLDEN / "runs" / "parameters.json").read_text())[name]
    found = write_runs.tree(write_runs.TREES[name])
    assert {path: values[:2] for path, values in found.items()} == {path: v[:2] for path, v in wanted.items()}
    for path, (*_, total, first) in wanted.items():
        np.testing.assert_allclose(found[path][2:], [total, first], rtol=1e-4, atol=1e-4, err_msg=path)
