"""Every benchmark runs on tiny shapes; what they measure against is what they say; no timings here."""

import argparse
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
RUNS = {  # part of the cases, for the sake of compile time
    "mixers": ["--only", "STFT B|forward"],
    "scaling": [],
    "train_step": ["--setting", "original_b", "experiment", "--set", "training.optimizer=adamw"],
    "decode": ["--only", "original|16"],
    "plans": [],
    "teacher": ["--teacher", "tests/golden/teacher/llama_scaled_biased"],
}


@pytest.fixture(autouse=True)
def from_root(monkeypatch):
    """As `python -m benchmarks.NAME` in the repository's root would find them."""
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.chdir(ROOT)


def load(name):
    return importlib.import_module(f"benchmarks.{name}")


@pytest.mark.parametrize("name", RUNS)
def test_quick_run(name, tmp_path, capsys):
    load(name).main(["--quick", "--no_peers", "--no_memory", "--rounds", "2", "--folder", str(tmp_path), *RUNS[name]])
    report = json.loads((tmp_path / f"benchmarks/results/{name}.json").read_text())
    assert {"cpu", "cores", "load", "jax", "jaxlib", "flax", "python", "date"} <= report["hardware"].keys()
    assert (tmp_path / f"docs/bench_{name}.png").stat().st_size > 5000
    printed = capsys.readouterr().out
    for case in report["cases"]:
        assert {"name", "tokens", "length", "reference", "rows"} <= case.keys() and case["name"] in printed
        for row in case["rows"]:
            assert {"name", "median", "min", "max", "ratio", "seconds", "peak_bytes"} == row.keys()
            assert len(row["seconds"]) == 2 and row["name"] in printed and "torch" not in row["name"]
            assert (row["ratio"] == 1) == (row["name"] == case["reference"])


@pytest.mark.parametrize("name, form", [
    ("causal_stft", "definition"),
    ("fftnet", "definition"),
    ("causal_fftnet", "definition"),
    ("causal_fftnet", "definition, direct sum"),
    ("attention", "attention, chunked"),
])  # fmt: skip
def test_baselines_compute_what_the_mixers_do(name, form):
    contender = load("baselines").mixer_contender
    sizes = {"width": 8, "window": 5, "filter_width": 6, "num_heads": 2}
    (mine, mine_grads), (other, other_grads) = (
        contender(name, 2, 64, kind, chunk=4, **sizes).run() for kind in ("ours", form)
    )
    assert float(jnp.std(mine)) > 1e-3
    np.testing.assert_allclose(other, mine, rtol=1e-3, atol=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), other_grads, mine_grads)


def test_turns_alternate_and_count_pieces(monkeypatch):
    timing, clock, order = load("timing"), [0.0], []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])

    def contender(name, seconds, pieces):
        def run():
            order.append(name)
            clock[0] += seconds

        return timing.Contender(run, pieces, before=lambda: clock.__setitem__(0, clock[0] + 9))

    contenders = {"a": contender("a", 1.0, 4), "b": contender("b", 0.1, 1)}
    seconds = timing.in_turns(contenders, rounds=3, turn=0.2, long=0.5)
    assert order == [*"ab", *"abbb", *"bbba", *"abbb"]  # b, the short one, each time once more than is timed
    assert seconds == {"a": pytest.approx([0.25] * 3), "b": pytest.approx([0.1] * 3)}
    few = timing.in_turns({"a": contender("a", 1.0, 1)}, rounds=20, budget=10.0)
    assert len(few["a"]) == 5  # of two calls each


def test_ratio_is_the_median_of_ratios_within_rounds():
    rows = load("timing").summary({"ours": [1.0, 10.0, 2.0], "other": [3.0, 20.0, 8.0]}, "ours")
    assert [row["ratio"] for row in rows] == [1, 3]  # a ratio of medians would be 4
    assert (rows[1]["median"], rows[1]["min"], rows[1]["max"]) == (8, 3, 20)


def test_peers_left_out_in_one_line_without_torch(monkeypatch, capsys, tmp_path):
    timing = load("timing")
    monkeypatch.setattr(timing.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(timing, "_run", lambda *_: {"name": "none", "rows": [], "length": None})
    monkeypatch.chdir(tmp_path)
    case = timing.Case("none", 1, {})
    timing.benchmark("none", lambda args: [case] * (not args.peers), "", ["--quick"], picture=lambda *_: None)
    assert capsys.readouterr().out == (
        "the PyTorch rows are left out: torch is not installed (pip install -e '.[peers]')\n"
    )


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_growth_sees_the_peak_and_not_what_came_before():
    timing, memory = load("timing"), load("memory")
    before = np.ones(200 << 17)  # 200 MiB, freed ahead
    del before
    size = memory.growth(timing.Contender(lambda: np.ones(64 << 17).sum(), held=1 << 20))
    assert 64 < size / 2**20 < 75


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_peak_memory_in_a_process_of_its_own():
    args = argparse.Namespace(quick=True, peers=False)
    assert 0 < load("memory").peak_memory("benchmarks.scaling", "16 tokens", "attention", args) < 2**30


def test_report_shows_every_result(tmp_path, capsys):
    load("plans").main(["--quick", "--no_peers", "--no_memory", "--rounds", "1", "--folder", str(tmp_path)])
    load("report").main(["--folder", str(tmp_path)])
    results = json.loads((tmp_path / "benchmarks/results/plans.json").read_text())
    page = (tmp_path / "docs/benchmarks.md").read_text()
    assert "`python -m benchmarks.plans --rounds 1 --no_memory`" in page
    assert "bench_plans.png" in page and results["hardware"]["date"][:10] in page
    for row in results["cases"][0]["rows"]:
        assert f"| {row['name']} | {row['median'] * 1e3:,.2f} ms |" in page
    assert "at most" in capsys.readouterr().out


def test_old_names_run():
    """What was `python -m benchmarks.NAME` before it had a folder of its own still is."""
    files = [file for room in ("studies", "reliability") for file in (ROOT / room).glob("[a-z]*.py")]
    assert len(files) == 12
    for file in files:
        assert Path(importlib.util.find_spec(f"benchmarks.{file.stem}").origin) == file
    command = [sys.executable, "-m", "benchmarks.quality", "--learning_rates=0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: argument --learning_rates"), done.stderr
