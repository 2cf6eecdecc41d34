"""The planner's formulas against the compiled step, and what it says of wrong input."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from benchmarks import chips, command_line, hlo, scale
from benchmarks.hlo import Sent
from benchmarks.roofline import network_seconds
from fftnet_jax.config import MeshConfig
from fftnet_jax.parallel.mesh import build_mesh

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


def test_what_a_tpus_compiler_makes_of_collectives():
    """One gather in three fusions, a reduce-scatter as all-reduce and slice, a start whose type holds both ends."""
    text = """HloModule step, num_partitions=4

%start (p: bf16[2,8]) -> (bf16[2,8], bf16[8,8]) {
  %all-gather.1 = bf16[8,8]{1,0} all-gather(%p), replica_groups={{0,1,2,3}}, frontend_attributes={chain_id="0"}
  ROOT %begin = (bf16[2,8], bf16[8,8]) custom-call(%all-gather.1), custom_call_target="AsyncCollectiveStart"
}

%middle (p: bf16[2,8]) -> (f32[2], bf16[8,8]) {
  %all-gather.2 = bf16[8,8]{1,0} all-gather(%p), replica_groups={{0,1,2,3}}, frontend_attributes={chain_id="0"}
  ROOT %both = (f32[2], bf16[8,8]) tuple(%sum, %all-gather.2)
}

%done (p: bf16[2,8]) -> bf16[8,8] {
  %all-gather.3 = bf16[8,8]{1,0} all-gather(%p), replica_groups={{0,1,2,3}}, frontend_attributes={chain_id="0"}
  ROOT %end = bf16[8,8] custom-call(%all-gather.3), custom_call_target="AsyncCollectiveDone"
}

%all-reduce-scatter.1 (p: f32[10]) -> f32[3] {
  %sum.1 = f32[12]{0} all-reduce(%padded), replica_groups={{0,1,2,3}}, to_apply=%add
  ROOT %own = f32[3]{0} dynamic-slice(%sum.1, %place), dynamic_slice_sizes={3}
}

ENTRY %main (x: bf16[2,8]) -> bf16[8,8] {
  %a = (bf16[2,8], bf16[8,8]) fusion(%x), kind=kCustom, calls=%start
  %b = (f32[2], bf16[8,8]) fusion(%a), kind=kOutput, calls=%middle
  %c = f32[3]{0} fusion(%y), kind=kCustom, calls=%all-reduce-scatter.1
  %sent = (f32[5], f32[5], u32[], u32[]) collective-permute-start(%z), source_target_pairs={{0,1}}
  ROOT %d = bf16[8,8] fusion(%b), kind=kCustom, calls=%done
}
"""
    found = hlo.traffic(text)
    assert {kind: (sent.count, sent.bytes, sent.beside) for kind, sent in found.items()} == {
        "all-gather": (1, 96, 96),
        "reduce-scatter": (1, 36, 0),
        "collective-permute": (1, 20, 20),
    }
    assert found["all-gather"].shapes == {("bf16", (8, 8))}


def test_gathered_activations_are_named(devices):
    devices(8)
    mesh = build_mesh(MeshConfig(1, 4, 2))
    params = {"kernel": jax.ShapeDtypeStruct((16, 3), "float32", sharding=NamedSharding(mesh, PartitionSpec("fsdp")))}
    sent = {"all-gather": Sent(shapes=frozenset({("f32", (1, 16, 3)), ("bf16", (2, 64, 3))}))}
    sent["all-reduce"] = Sent(shapes=frozenset({("f32", ()), ("f32", (4, 3)), ("f32", (128, 3))}))
    assert scale.gathered_activations(sent, params) == ["bf16[2, 64, 3]", "f32[128, 3]"]


def test_both_counts_of_memory_are_told_apart():
    v5e = chips.CHIPS["v5e"]
    assert scale._fit(16 * 10**9, 10**9, v5e) == "fits"
    assert scale._fit(17 * 10**9, 10**9, v5e) == "fits by what is alive at once only"
    assert scale._fit(18 * 10**9, 17 * 10**9, v5e) == "too little"


def test_exchange_over_a_ring_takes_its_hops():
    """16 chips of a torus: 4 hops on average, over one of two axes; neighbours over one of four links."""
    v5e, h100 = chips.CHIPS["v5e"], chips.CHIPS["h100"]
    for kind, times in (("all-gather", 1), ("all-to-all", 8), ("collective-permute", 4)):
        assert network_seconds(kind, v5e.link, 16, v5e) == times
        assert network_seconds(kind, h100.link, 16, h100) == 1


@pytest.mark.parametrize(
    "chip, count, words",
    [
        ("v5e", 100, "there are slices of 1, 4, 8, 16, 32, 64, 128, 256 TPU v5e, and none of 100"),
        ("v6e", 512, "and none of 512"),
        ("v5p", 8192, "2048, 4096 TPU v5p, and none of 8192"),
        ("v5p", 256, "no compiler for TPU v5p: libtpu is not installed"),
    ],
)
def test_no_such_slice_and_no_compiler(chip, count, words, monkeypatch, capsys):
    monkeypatch.setattr(chips.importlib.util, "find_spec", lambda name: None)
    argv = ["--config", str(ROOT / "benchmarks/configs/one_billion.py"), "--chip", chip, "--devices", str(count)]
    assert command_line.run(scale.main, argv) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--devices", "0"], "--devices must be in 1..16384, got 0"),
        (["--config.model.vocab_size=0"], "model.vocab_size must be set, as no data are read, got 0"),
        (["--output", "/nowhere/scale.json"], "--output must be a file in a folder that is there, got /nowhere"),
        (["--chip", "v9"], "argument --chip: invalid choice: 'v9'"),
        (["--devices", "many"], "argument --devices: invalid int value: 'many'"),
    ],
)
def test_wrong_input_is_one_line(flags, words, capsys):
    argv = ["--config", str(ROOT / "benchmarks/configs/one_billion.py"), *flags]
    assert command_line.run(scale.main, argv) == 2
    assert words in capsys.readouterr().err
