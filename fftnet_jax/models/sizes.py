"""How large a model is, before it is built: also one of a million layers, or of arrays beyond any memory."""

import dataclasses
import math
from collections import Counter
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from fftnet_jax.config import ModelConfig, from_dict
from fftnet_jax.errors import ConfigError
from fftnet_jax.mixers.base import mixer_class, options
from fftnet_jax.models.decoder import build_model

TRACED = 512  # the largest option of a mixer that is traced: beyond it, arrays of constants and loops may not end
BEYOND = 2**63  # bytes, for what JAX can't even name


def parameter_shapes(model: nn.Module) -> dict:
    """Shapes of a model's parameters; nothing is computed."""
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1), jnp.int32))["params"]


def weigh(config: ModelConfig, shapes_of: Callable = parameter_shapes) -> int:
    """Bytes per device of the tree of shapes that `shapes_of(model)` gives, each placed as its `sharding` says.

    A model with one block of each kind stands for one of many. Options beyond `TRACED` are reckoned from smaller ones:
    as parameters are products of sizes, that gives no more than there is.
    """
    layers = Counter(_mixers(config))
    small = dataclasses.replace(config, mixer=tuple(layers), num_layers=len(layers))
    huge = {}
    for name in layers:
        for option, field in options(mixer_class(name)).items():
            if field.type in (int, "int") and getattr(config, option) > TRACED:
                huge[option] = getattr(config, option)
    least = dict.fromkeys(huge, TRACED)
    try:
        size = base = _weigh(dataclasses.replace(small, **least), layers, shapes_of)
        for option, value in huge.items():
            less = _weigh(dataclasses.replace(small, **least | {option: TRACED // 2}), layers, shapes_of)
            size += (base - less) * (value - TRACED) // (TRACED - TRACED // 2)
    except ConfigError:  # an option that its mixer wants as it is
        size = _weigh(small, layers, shapes_of)
    return size


def same_parameters(old: dict | None, new: ModelConfig) -> bool:
    """Whether a model takes another's parameters; `old` is that one's configuration as a dictionary."""
    try:
        old = from_dict(old, ModelConfig, "model.")
        if old.num_layers != new.num_layers or not (old.mixer == new.mixer or old.mixers == new.mixers):
            return False
        kinds = tuple(_mixers(new))
        small = [dataclasses.replace(c, mixer=kinds, num_layers=len(kinds)) for c in (old, new)]
        old_shapes, new_shapes = (parameter_shapes(build_model(c)) for c in small)
        return old_shapes == new_shapes
    except (ConfigError, TypeError, ValueError, OverflowError):
        return False


def _mixers(config: ModelConfig) -> dict[str, int]:
    """How many layers have each mixer; not their list, which may be long."""
    return {config.mixer: config.num_layers} if isinstance(config.mixer, str) else dict(Counter(config.mixers))


def _weigh(small: ModelConfig, layers: dict[str, int], shapes_of) -> int:
    try:
        shapes = shapes_of(build_model(small))
    except (OverflowError, ValueError, TypeError, MemoryError) as error:  # of sizes that JAX can't hold in an integer
        if isinstance(error, ConfigError):
            raise
        return BEYOND
    count = {f"blocks_{index}": number for index, number in enumerate(layers.values())}
    total = 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
        keys = [getattr(key, "key", None) for key in path]
        times = next((count[key] for key in keys if key in count), 1)
        shape = leaf.sharding.shard_shape(leaf.shape) if leaf.sharding else leaf.shape
        total += times * math.prod(shape) * leaf.dtype.itemsize
    return total
