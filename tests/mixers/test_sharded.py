"""On a batch-sharded mesh no mixer gathers or adds up activations, forward or backward."""

import os
import subprocess
import sys

import pytest

from fftnet_jax.config import MIXERS

PROGRAM = """
import math, re, sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from fftnet_jax.config import ModelConfig
from fftnet_jax.mixers import build_mixer

mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
rows, everywhere = (NamedSharding(mesh, PartitionSpec(*spec)) for spec in (("data",), ()))
x = np.random.default_rng(0).normal(size=(8, 150, 8)).astype(np.float32)
for name in sys.argv[1:]:
    mixer = build_mixer(name, ModelConfig(family="encoder", mixer=name, width=8, num_heads=2, window=16))
    params = jax.jit(mixer.init)(jax.random.key(0), x[:1]).get("params", {})
    step = jax.jit(jax.value_and_grad(lambda params, x: (mixer.apply({"params": params}, x) ** 2).sum(), (0, 1)))
    wanted = step(params, x)
    placed = jax.device_put(params, everywhere), jax.device_put(x, rows)
    text = step.lower(*placed).compile().as_text()
    close = jax.tree.map(lambda a, b: np.allclose(a, b, atol=1e-4 * np.abs(b).max()), step(*placed), wanted)
    added = " ".join(re.findall(r"= (.*) all-reduce\\(", text))
    sizes = [math.prod(map(int, shape.split(","))) for shape in re.findall(r"f32\\[([\\d,]+)\\]", added)]
    whole = sum(size in (x.size, x[0].size) for size in sizes)  # activations, of all devices or one
    print(name, text.count("all-gather") + whole, all(jax.tree.leaves(close)))
"""


@pytest.fixture(scope="module")
def report():
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    run = subprocess.run([sys.executable, "-c", PROGRAM, *MIXERS], env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return dict(line.split(" ", 1) for line in run.stdout.splitlines())


@pytest.mark.parametrize("name", [name for name in MIXERS if name != "fourier"])
def test_no_gather_and_the_same_numbers(name, report):
    assert report[name] == "0 True"
