import dataclasses

import jax
import pytest
from jax.sharding import AbstractMesh

from fftnet_jax.config import ModelConfig
from fftnet_jax.models import build_model
from fftnet_jax.models.sizes import TRACED, parameter_shapes, same_parameters, weigh
from fftnet_jax.parallel.mesh import AXES, state_sharding

SIZES = {"vocab_size": 65, "width": 16, "num_layers": 4, "ffn_width": 24, "num_heads": 2}


def config(**changes):
    return ModelConfig(**{**SIZES, **changes})


def place(shapes, mesh):
    placed = lambda s, sharding: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=sharding)  # noqa: E731
    return jax.tree.map(placed, shapes, state_sharding(shapes, mesh))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"mixer": ("causal_stft", "attention", "causal_fftnet", "causal_stft")},
        {"mixer": "fftnet", "family": "encoder", "filter_width": TRACED + 88, "head_bias": True, "tie_head": False},
        {"mixer": "fourier", "family": "encoder", "ffn_width": 0, "block_norm": "none"},
        {"mixer": "causal_stft", "window": TRACED + 30},
        {"filter_modes": 3 * TRACED, "positions": "learned", "max_length": 40},
    ],
)
def test_as_large_as_the_model(changes):
    """From a block of each kind, and from smaller options where they are large."""
    c = config(**changes)
    whole = parameter_shapes(build_model(c))
    assert weigh(c) == sum(4 * leaf.size for leaf in jax.tree.leaves(whole))
    mesh = AbstractMesh((2, 2, 2), AXES)
    parts = [leaf.sharding.shard_shape(leaf.shape) for leaf in jax.tree.leaves(place(whole, mesh))]
    split = sum(4 * jax.numpy.empty(part).size for part in parts)
    assert weigh(c, lambda model: place(parameter_shapes(model), mesh)) == split < weigh(c)


def test_two_large_options_give_no_more_than_there_is():
    c = config(mixer="fftnet", family="encoder", filter="frequency", filter_width=600, filter_points=700)
    whole = sum(4 * leaf.size for leaf in jax.tree.leaves(parameter_shapes(build_model(c))))
    assert 0.5 * whole < weigh(c) <= whole


@pytest.mark.parametrize(
    "changes, least",
    [
        ({"width": 10**6}, 1e13),
        ({"width": 2**31 - 8}, 1e18),
        ({"num_layers": 2**31 - 1}, 1e12),
        ({"mixer": "causal_stft", "window": 2**31 - 1}, 1e12),
        ({"short_filter": 2**31 - 1}, 1e11),
        ({"vocab_size": 2**31 - 1, "ffn_width": 2**31 - 1}, 1e11),
    ],
)
def test_absurd_sizes_are_weighed_at_once(changes, least):
    assert weigh(config(**changes)) >= least


def test_same_parameters():
    c = config(mixer=("causal_stft", "attention", "attention", "attention"))
    old = dataclasses.asdict(c)
    assert same_parameters(old, c) and same_parameters(old, dataclasses.replace(c, dropout=0.1, activation="relu2"))
    for change in ({"width": 32}, {"vocab_size": 66}, {"block_norm": "both"}, {"mixer": "attention"}):
        assert not same_parameters(old, dataclasses.replace(c, **change))
    assert not same_parameters(old, dataclasses.replace(c, mixer=c.mixer[::-1]))
    assert not same_parameters({"widht": 3}, c) and not same_parameters(None, c)
