"""On a batch-sharded mesh no mixer gathers or adds up activations, forward or backward."""

import math
import re

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from fftnet_jax.config import MIXERS, ModelConfig
from fftnet_jax.mixers import build_mixer


@pytest.mark.parametrize("name", [name for name in MIXERS if name != "fourier"])
def test_no_gather_and_the_same_numbers(name, devices):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,), devices=devices(8))
    x_BND = np.random.default_rng(0).normal(size=(8, 150, 8)).astype(np.float32)
    mixer = build_mixer(name, ModelConfig(family="encoder", mixer=name, width=8, num_heads=2, window=16))
    params = jax.jit(mixer.init)(jax.random.key(0), x_BND[:1])["params"]
    step = jax.jit(jax.value_and_grad(lambda params, x: (mixer.apply({"params": params}, x) ** 2).sum(), (0, 1)))
    wanted = step(params, x_BND)
    everywhere, rows = (NamedSharding(mesh, PartitionSpec(*spec)) for spec in ((), ("data",)))
    placed = jax.device_put(params, everywhere), jax.device_put(x_BND, rows)
    compiled = step.lower(*placed).compile()
    for a, b in zip(jax.tree.leaves(compiled(*placed)), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4 * np.abs(b).max())
    text = compiled.as_text()
    assert "all-gather" not in text
    added = " ".join(re.findall(r"= (.*) all-reduce\(", text))
    sizes = {math.prod(map(int, shape.split(","))) for shape in re.findall(r"f32\[([\d,]+)\]", added)}
    assert sizes and not sizes & {x_BND.size, x_BND[0].size}, "activations, of all devices or one"
