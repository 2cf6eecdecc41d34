"""`python -m benchmarks.compile`: how it reads programs, what it compiles, its files; no chip's compiler here."""

import dataclasses
import importlib.util
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from benchmarks import ahead, chips, command_line, compile, estimates, experiment_steps, programs, roofline
from benchmarks.chips import CHIPS
from benchmarks.costs import costs
from benchmarks.hlo import Sent
from fftnet_jax import ops
from fftnet_jax.errors import ConfigError
from fftnet_jax.parallel.mesh import build_mesh

ROOT = Path(__file__).resolve().parents[1]
# In the form of a TPU's compiler: costs of instructions of the entry and of loops, by either sort of bound; a kernel of
# Pallas that says its FLOPs, in a loop, and one that says nothing; a slice of a long array in a fusion.
TEXT = """HloModule step

%sliced (long: f32[100,8], at: s32[]) -> f32[1,8] {
  %long = f32[100,8]{1,0} parameter(0)
  %at = s32[] parameter(1)
  ROOT %slice = f32[1,8]{1,0} dynamic-slice(%long, %at, %at), dynamic_slice_sizes={1,8}
}

%product (a: bf16[4,8], b: bf16[8,16]) -> bf16[4,16] {
  %a = bf16[4,8]{1,0} parameter(0)
  %b = bf16[8,16]{1,0} parameter(1)
  ROOT %convolution = bf16[4,16]{1,0} convolution(%a, %b), dim_labels=bf_io->bf
}

%body (p: (s32[], f32[100,8])) -> (s32[], f32[100,8]) {
  %p = (s32[], f32[100,8]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %rows = f32[100,8]{1,0} get-tuple-element(%p), index=1
  %work = f32[1,8]{1,0} fusion(%rows, %i), kind=kLoop, calls=%sliced, backend_config={"estimated_cycles":"10"}
  %kernel = f32[1,8]{1,0} custom-call(%work), custom_call_target="tpu_custom_call", backend_config={"custom_call_config":{"body":"TUzv","cost_estimate":{"flops":"1000","transcendentals":"0","bytes_accessed":"500"}},"estimated_cycles":"1"}
  ROOT %out = (s32[], f32[100,8]{1,0}) tuple(%i, %rows)
}

%condition (p: (s32[], f32[100,8])) -> pred[] {
  %p = (s32[], f32[100,8]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %bound = s32[] constant(7)
  ROOT %less = pred[] compare(%i, %bound), direction=LT
}

ENTRY %main (x: bf16[4,8], y: bf16[8,16], z: (s32[], f32[100,8])) -> bf16[4,16] {
  %x = bf16[4,8]{1,0:T(8,128)(2,1)} parameter(0)
  %y = bf16[8,16]{1,0:T(8,128)(2,1)} parameter(1)
  %z = (s32[], f32[100,8]{1,0}) parameter(2)
  %near = bf16[4,8]{1,0:T(8,128)(2,1)S(1)} copy(%x), backend_config={"estimated_cycles":"1000"}
  %loop = (s32[], f32[100,8]{1,0}) while(%z), condition=%condition, body=%body
  %again = (s32[], f32[100,8]{1,0}) while(%z), condition=%other, body=%body, backend_config={"known_trip_count":{"n":"3"}}
  %silent = f32[4,8]{1,0} custom-call(%near), custom_call_target="tpu_custom_call"
  ROOT %fusion = bf16[4,16]{1,0} fusion(%near, %y), kind=kOutput, calls=%product, backend_config={"estimated_cycles":"20"}
}
"""  # noqa: E501


def test_loops_are_multiplied_out():
    found = costs(TEXT)
    assert found.cycles == 1000 + 20 + (7 + 3) * 10
    assert found.flops == 2 * 4 * 8 * 16 + 10 * 1000


def test_kernels_of_pallas_are_never_free():
    found = costs(TEXT)
    assert sorted(found.pallas) == [(0, 64 + 128), *[(1000, 500)] * 10]
    assert found.kernels == {"fusions": 2, "pallas": 2}
    chip = chips.Chip("", "tpu", flops=100.0, memory=1, bandwidth=10.0, link=1)
    said = 10 * 500 / 10.0 + 192 / 10.0  # each is bound by its bytes
    assert roofline.kernel_seconds(found.pallas, 0.0, chip) == pytest.approx(said / 0.4)
    assert roofline.kernel_seconds(found.pallas, 1e6, chip) == pytest.approx(1e6 / 100.0 / 0.4)
    assert roofline.kernel_seconds((), 1e6, chip) == 0


def test_bytes_are_those_of_memory_and_of_slices():
    """Not the array that a slice is of, nor what lies on the chip (S(1))."""
    copied, product, silent = 64, 256 + 128, 128
    sliced, kernel = 2 * 32 + 4, 64
    assert costs(TEXT).bytes == copied + product + silent + 10 * (sliced + kernel)


def test_a_batched_product_counts_once():
    """A TPU's compiler writes it as a convolution over a dilated axis, of which one place meets one tap."""
    text = """HloModule step

ENTRY %main (x: f32[5,3,4], y: f32[5,4,6]) -> f32[5,3,6] {
  %x = f32[5,3,4]{2,1,0} parameter(0)
  %y = f32[5,4,6]{2,1,0} parameter(1)
  ROOT %out = f32[5,3,6]{2,1,0} convolution(%x, %y), window={size=5 stride=4 lhs_dilate=5}, dim_labels=0bf_0io->0bf
}
"""
    assert costs(text).flops == 2 * 5 * 3 * 4 * 6


def test_a_cpu_program_is_read_to_the_flop():
    """Against products and shapes that are known: a scan of 11 steps, and a convolution."""

    def f(x, w, taps):
        y = jax.lax.scan(lambda c, _: (jnp.tanh(c @ w), None), x, length=11)[0]
        return jax.lax.conv_general_dilated(y[None], taps, (1,), "VALID", dimension_numbers=("NWC", "WIO", "NWC"))

    shapes = ((64, 32), (32, 32), (5, 32, 16))
    text = jax.jit(f).lower(*(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)).compile().as_text()
    assert costs(text).flops == 11 * 2 * 64 * 32 * 32 + 2 * 60 * 5 * 32 * 16


def test_floor():
    chip = CHIPS["v5e"]
    assert roofline.floor(197e12, 1.0, chip) == 1.0 and roofline.floor(1.0, 819e9, chip) == 1.0
    params = {
        "token": {"embedding": jnp.zeros((7, 3))},
        "out": {"kernel": jnp.zeros((3, 4)), "bias": jnp.zeros(4)},
        "projection": {"kernel": jnp.zeros((9, 9))},
    }
    assert roofline.dense_flops(params) == 2 * 12 and roofline.dense_flops(params, True) == 2 * (12 + 21)


def test_compile_for_reads_a_program():
    """With this machine's CPU in the place of a chip."""

    def build(mesh):
        x = jax.ShapeDtypeStruct((8, 8), jnp.float32)
        return ahead.Work(jax.jit(lambda a, b: a @ b, donate_argnums=0), (x, x), flops=1024.0)

    chip = chips.Chip("", "cpu", flops=1e6, memory=1e9, bandwidth=1e9, link=1, clock=1e9)
    found = ahead.compile_for(chip, build_mesh(devices=jax.devices()[:1]), build)
    assert (found.flops, found.held, found.sent, found.cycles) == (1024, 2 * 256, {}, 0)
    assert found.floor_ms == pytest.approx(1.024) and found.seconds > 0


NAMES = {(program.kind, program.name): program.title for program in programs.programs()}


@pytest.fixture
def shallow(monkeypatch):
    """One layer, for students, teachers and the flagship."""
    real = programs.experiment

    def one_layer(file):
        config = real(file)
        return dataclasses.replace(config, model=dataclasses.replace(config.model, num_layers=1))

    monkeypatch.setattr(programs, "experiment", one_layer)
    monkeypatch.setitem(programs.FLAGSHIP, "num_layers", 1)
    for teacher in experiment_steps.TEACHERS.values():
        monkeypatch.setitem(teacher, "num_hidden_layers", 1)


@pytest.mark.parametrize("title", NAMES.values())
def test_each_program_can_be_traced(title, shallow):
    """Each name once, with its sizes but for the layers, in the chip's form; nothing is allocated."""
    (program,) = [program for program in programs.programs() if program.title == title]
    with ops.use(program.form or "tpu"):
        work = program.build(build_mesh(devices=jax.devices()[:1]))
        out = jax.eval_shape(work.function, *work.arguments)
    sizes = [math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves((work.arguments, out))]
    assert work.flops > 0 or "stft" in program.name or "fourier" in program.name
    assert roofline.floor(work.flops, work.moved or sum(sizes), CHIPS["v5e"]) > 0


def test_every_experiment_is_there():
    assert experiment_steps.VOCABULARIES.keys() == {file.stem for file in (ROOT / "experiments").glob("*.py")}


def test_list_and_shape(capsys):
    assert compile.main(["--list"]) == 0
    titles = capsys.readouterr().out.splitlines()
    assert len(titles) == len(set(titles)) and "mixer causal_fftnet (1, 32768, 256) bfloat16" in titles
    assert compile.main(["--list", "--shape", "2", "64", "16", "--only", "fftnet"]) == 0
    assert "mixer causal_fftnet (2, 64, 16) bfloat16" in capsys.readouterr().out.splitlines()


def rows_of(changes):
    found = ahead.Compiled(2.0, 3_000_000, 2.0, 1e9, 1e6, 0.5, 10, 20, {"fusions": 3}, {"all-reduce": Sent(2, 1e6)})
    program = programs.programs()[0]
    return {**estimates.row("v5e", program, found), "compiler": "libtpu 1", **changes}


@pytest.fixture
def versions(monkeypatch):
    monkeypatch.setattr(estimates.importlib.metadata, "version", lambda name: "1")


def test_rows_are_updated_and_the_others_stay(tmp_path, versions):
    file, order = tmp_path / "rows.json", [program.title for program in programs.programs()]
    estimates.merge(file, rows_of({"program": "causal_fftnet", "chip": "v6e"}), order)
    estimates.merge(file, rows_of({"program": "causal_fftnet"}), order)
    estimates.merge(file, rows_of({}), order)
    rows = estimates.merge(file, rows_of({"program": "causal_fftnet", "milliseconds": 7.0}), order)
    assert rows == json.loads(file.read_text())["rows"]
    assert [(row["chip"], row["program"], row["milliseconds"]) for row in rows] == [
        ("v5e", "attention, num_heads 4", 2.0),
        ("v5e", "causal_fftnet", 7.0),
        ("v6e", "causal_fftnet", 2.0),
    ]


def test_report(tmp_path, monkeypatch, versions, capsys):
    monkeypatch.setattr(compile, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    file, page = tmp_path / "rows.json", tmp_path / "docs/accelerators.md"
    untimed = {"cycles": None, "milliseconds": None, "ratio": None, "chip": "h100"}
    for row in (rows_of({}), rows_of({"program": "large", "error": "no room"}), rows_of(untimed)):
        estimates.merge(file, row, [])
    page.write_text("before\n")
    assert command_line.run(compile.main, ["--report", "--json", str(file)]) == 2
    page.write_text("before\n<!-- python -m benchmarks.compile --report -->\nold\n<!-- end -->\nafter\n")
    assert compile.main(["--report", "--json", str(file)]) == 0
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("-->\nafter\n") and "old" not in text
    assert "## TPU v5e" in text and "| large (8, 1024, 256) bfloat16 | no room |" in text and "3 fusions" in text
    assert "| 2 | 3 | 2 | 1 | 1 | 0.5 | 4 |" in text
    assert (tmp_path / "docs/bench_compile.png").stat().st_size > 5000


@pytest.mark.parametrize("argv, words", [
    (["--only", "perceptron"], ["--only 'perceptron'", "causal_stft"]),
    (["--only", "("], ["--only", "regular expression"]),
    (["--chip", "abacus"], ["--chip", "v5e", "h100", "'abacus'"]),
    (["--chip", "a100"], ["--chip", "'a100'"]),
    (["--shape", "8", "1024"], ["--shape must be rows, tokens and channels", "8 1024"]),
    (["--shape", "8", "0", "256"], ["--shape", "at least 1", "8 0 256"]),
    (["--shape", "8", "64", "30"], ["--shape", "multiple of 4", "8 64 30"]),
    (["--shape", "8", "x", "30"], ["--shape", "int", "'x'"]),
    (["--json", "/nowhere/x.json"], ["--json must be a file in a folder that is there", "/nowhere/x.json"]),
    (["--json", __file__], ["--json must be a file that this command wrote", __file__]),
    (["--report", "--json", "none.json"], ["--report needs rows", "none.json"]),
])  # fmt: skip
def test_bad_input_is_one_line(argv, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command_line.run(compile.main, argv) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and all(word in said for word in words), said


@pytest.mark.parametrize("chip, refusal, words", [
    ("v5e", None, ["libtpu is not installed", ".[aot]"]),
    ("v5e", "ABORTED: Internal error when accessing libtpu multi-process lockfile.\nMore", ["locked by another"]),
    ("v5e", "something else\nMore", ["no compiler for TPU v5e: something else"]),
    ("h100", "topology not implemented for cuda", ["CUDA plugin", ".[cuda12]", "not implemented"]),
])  # fmt: skip
def test_no_compiler_is_one_line(chip, refusal, words, capsys, monkeypatch):
    def refuses(**_):
        raise RuntimeError(refusal)

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: refusal and name)
    monkeypatch.setattr(chips.topologies, "get_topology_desc", refuses)
    assert command_line.run(compile.main, ["--chip", chip, "--only", "attention"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and all(word in said for word in words), said


def test_what_a_compiler_refuses_is_a_row(monkeypatch, capsys, versions):
    def refuses(*_):
        raise ValueError("does not fit\nat all")

    monkeypatch.setattr(compile, "device", lambda chip: jax.devices()[0])
    monkeypatch.setattr(compile, "compile_for", refuses)
    assert compile.main(["--only", "decode"]) == 1
    assert capsys.readouterr().out.count("  does not fit\n") == 4


def test_a_form_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="at least 1"):
        programs.check_shape([8, -1, 4])
