"""Who decides which implementation runs: a context, then the mixer's field, then the devices."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from fftnet_jax import ops
from fftnet_jax.mixers import CausalFFTNet
from fftnet_jax.ops import select
from fftnet_jax.ops.tpu import long as long_blocks
from fftnet_jax.ops.tpu import long_kernel

PACKAGE = Path(select.__file__).parents[1]
TPU, GPU, METAL = (SimpleNamespace(platform=name) for name in ("tpu", "cuda", "METAL"))


@ops.operation
def sign(x):
    return x


for _name, _factor in (("cpu", 2), ("tpu", 3)):
    sign.implements(_name)(lambda x, factor=_factor: factor * x)


def test_field_context_and_devices():
    assert [sign(1, implementation=name) for name in ("auto", "reference", "cpu", "tpu")] == [2, 1, 2, 3]
    with ops.use("tpu"):
        assert sign(1) == sign(1, implementation="cpu") == 3, "the context counts more than a field"
        with ops.use("auto"):
            assert [sign(1), sign(1, implementation="tpu")] == [2, 3]
    assert sign(1, implementation="gpu") == 1, "the definition, where nothing else is there"


@pytest.mark.parametrize("device, wanted", [(TPU, "tpu"), (GPU, "gpu"), (METAL, "reference")])
def test_auto_is_what_the_program_is_compiled_for(device, wanted):
    with ops.compiled_for([device]):
        assert ops.choose() == wanted
        assert f"the program is compiled for a {device.platform.upper()}" in ops.explain()[1]
    assert ops.choose() == "cpu"


def test_auto_is_what_a_mesh_at_hand_is_made_of(monkeypatch):
    mesh = jax.make_mesh((1,), ("x",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:1])
    with jax.set_mesh(mesh):
        assert ops.explain() == ("cpu", "the mesh at hand is of a CPU")
    monkeypatch.setattr(jax.sharding, "get_abstract_mesh", lambda: SimpleNamespace(abstract_device=TPU))
    assert ops.explain() == ("tpu", "the mesh at hand is of a TPU")


def test_auto_is_the_default_device_and_else_the_default_backend(monkeypatch):
    with jax.default_device(jax.devices()[0]):
        assert ops.explain() == ("cpu", "jax.default_device is a CPU")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert ops.explain() == ("gpu", "JAX's default backend is a GPU")


def test_a_jitted_function_is_traced_anew_where_the_choice_changes():
    traced = jax.jit(sign)
    assert traced(1) == 2
    with ops.use("tpu"):
        assert traced(1) == 3
    assert traced(1) == 2


@pytest.mark.parametrize("call", [lambda: ops.use("fast").__enter__(), lambda: sign(1, implementation="fast")])
def test_unknown_names(call):
    with pytest.raises(ValueError, match="implementation must be one of auto, reference, cpu, tpu, gpu, got 'fast'"):
        call()


def test_a_mixer_says_what_was_chosen_and_why():
    assert CausalFFTNet(4).describe() == "CausalFFTNet: implementation 'cpu', because JAX's default backend is a CPU"
    asked = CausalFFTNet(4, implementation="tpu")
    assert asked.describe() == "CausalFFTNet: implementation 'tpu', because the mixer's field asks for it"
    with ops.use("reference"):
        assert "'reference', because ops.use asks for it" in asked.describe()


def test_one_file_knows_a_platform():
    words = ("default_backend", ".platform", "platform_dependent")
    found = {path.name for path in PACKAGE.rglob("*.py") if any(word in path.read_text() for word in words)}
    assert found == {"select.py"}


def test_mixers_and_models_speak_of_no_processor():
    words = (" CPU", " TPU", " GPU", "backend", "XLA")
    for path in [*PACKAGE.glob("mixers/*.py"), *PACKAGE.glob("models/*.py")]:
        assert not any(word in path.read_text() for word in words), path


def test_an_operation_needs_no_device_to_be_imported():
    """Else a program could not choose its devices, or its processes, after the import."""
    code = "import fftnet_jax.ops, fftnet_jax.models, jax; print(jax._src.xla_bridge.backends_are_initialized())"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


def test_dtype_and_shape_are_those_of_the_definition():
    x = jnp.ones((1, 5, 2), jnp.bfloat16)
    for name in ("reference", "cpu", "tpu", "gpu"):
        assert ops.short_convolution(x, jnp.ones((3, 2)), implementation=name).dtype == jnp.bfloat16


def test_a_gpu_runs_what_a_tpu_does_or_the_definition_or_what_a_kernel_stands_for():
    """Tests elsewhere take a TPU's forms for both; of the STFT only the precision of products differs."""
    own_on_tpu = ("rfft", "irfft", "channel_dft", "real_token_dft", "gated_convolution")  # a GPU's FFTs are fast
    own_on_tpu += ("matmul", "matmuls", "matmul_outputs_first")  # of a few rows
    found = {name: thing for name, thing in vars(ops).items() if isinstance(thing, select.Operation)}
    assert len(found) > 6
    for name, operation in found.items():
        tpu, gpu = operation.form("tpu"), operation.form("gpu")
        if name in own_on_tpu:
            assert gpu is operation.reference, name
        elif name == "stft_convolution":
            assert tpu.func is gpu.func
        elif name == "long_convolution":
            assert gpu is long_blocks.convolve and tpu is long_kernel.convolve
        else:
            assert tpu is gpu, name
