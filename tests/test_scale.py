"""The planner's formulas against the compiled step, and what it says of wrong input."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import command_line, hlo, scale

ROOT = Path(__file__).resolve().parents[1]
SMALL = (
    "model.num_layers=2",
    "model.width=64",
    "model.ffn_width=128",
    "model.num_heads=4",
    "model.vocab_size=4096",
    "model.dtype=float32",
    "data.length=128",
)
MESHES = {
    "causal_fftnet": ("mesh.fsdp=2", "mesh.model=2", "model.remat=false"),
    "causal_stft": ("mesh.fsdp=4", "mesh.model=1", "model.remat=false"),
}


@pytest.mark.parametrize("mixer", MESHES)
def test_formulas_are_what_the_compiled_step_does(mixer, tmp_path):
    command = [sys.executable, "-m", "benchmarks.scale", "--config", "benchmarks/configs/one_billion.py"]
    flags = [f"--config.{override}" for override in (*SMALL, *MESHES[mixer], f"model.mixer={mixer}")]
    command += [*flags, "--devices", "8", "--output", str(tmp_path / "scale.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "scale.json").read_text())
    found, formulas = written["found"], {name: value for name, (_, value) in written["formulas"].items()}
    assert found["state"] == pytest.approx(formulas["state"], rel=0.01)
    for kind, (_, sent) in found["traffic"].items():
        assert sent == pytest.approx(formulas[kind], rel=0.01), kind
    absent = set(hlo.KINDS) - found["traffic"].keys()
    assert all(formulas[kind] == 0 for kind in absent), absent
    assert "| TPU v5p |" in done.stdout and "fits" in done.stdout


def test_loops_count_as_often_as_they_run():
    text = """HloModule step

%body (p: f32[8]) -> f32[8] {
  %gathered = f32[8]{0} all-gather(%p), replica_groups={{0,1,2,3}}, dimensions={0}
}

ENTRY %main (x: f32[2]) -> f32[8] {
  %loop = f32[8]{0} while(%x), body=%body, backend_config={"known_trip_count":{"n":"3"}}
  %sum = (f32[4]{0}, bf16[2]{0}) all-reduce(%a, %b), replica_groups=mesh['a'=2,'b'=4] {'b'}, to_apply=%add
  ROOT %moved = s32[5]{0} collective-permute(%y), source_target_pairs={{0,1}}
}
"""
    found = {kind: (sent.count, sent.bytes, sent.beside) for kind, sent in hlo.traffic(text).items()}
    assert found == {"all-gather": (3, 72, 0), "all-reduce": (1, 30, 0), "collective-permute": (1, 20, 0)}


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--devices", "0"], "--devices must be in 1..16384, got 0"),
        (["--config.model.vocab_size=0"], "model.vocab_size must be set, as no data are read, got 0"),
        (["--output", "/nowhere/scale.json"], "--output must be a file in a folder that is there, got /nowhere"),
        (["--devices", "many"], "argument --devices: invalid int value: 'many'"),
    ],
)
def test_wrong_input_is_one_line(flags, words, capsys):
    argv = ["--config", str(ROOT / "benchmarks/configs/one_billion.py"), *flags]
    assert command_line.run(scale.main, argv) == 2
    assert words in capsys.readouterr().err
