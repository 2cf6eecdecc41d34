"""What a mixer is, and the registry: a new one is a file in this folder whose class registers itself.

A mixer is a Linen module (B, N, D) → (B, N, D) with options, fields made by `option(…)`: their names, defaults and
limits become fields of `model` in the configuration. Of `width`, `dtype`, `precision` and `implementation` it gets
those that it has as fields. Its class says whether it is `causal`. A causal one also decodes, through an explicit
cache: `init_cache(batch, length)`, `prefill(x_BND, cache, pads_B)` and `step(x_BD, cache)` give the same outputs as one
call on the whole sequence. What `step` needs that depends on parameters only, `prepare(weights)` leaves in the
collection "constants", to be computed once and not every token: see `dense`.
"""

import dataclasses
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from fftnet_jax.config.fields import knob
from fftnet_jax.config.model import CHECKS, MIXERS, SPLIT_CHECKS, ModelConfig
from fftnet_jax.ops.select import explain

_CLASSES: dict[str, type[nn.Module]] = {}

option = knob


class Mixer(nn.Module):
    """Base of the mixers."""

    causal = False

    def describe(self) -> str:
        """Which implementation of its operations runs, and why."""
        chosen, why = explain(getattr(self, "implementation", "auto"))
        return f"{type(self).__name__}: implementation '{chosen}', because {why}"

    @nn.nowrap
    def check_input(self, x: jax.Array, axes: str = "batch, tokens") -> None:
        """Raises ValueError unless x is (B, N, D), or (B, D) for a step, with no axis of length 0."""
        width = getattr(self, "width", None) or "width"
        if x.ndim != 2 + axes.count(",") or 0 in x.shape or x.shape[-1] != (width if width != "width" else x.shape[-1]):
            raise ValueError(f"{type(self).__name__} takes ({axes}, {width}), at least one of each, got {x.shape}")

    @staticmethod
    def check(config: ModelConfig) -> None:
        """Raises ConfigError for a configuration that this mixer can't take."""

    @staticmethod
    def check_split(config: ModelConfig, parts: int) -> None:
        """Raises ConfigError where a sequence can't be split over so many devices."""


def register(name: str) -> Callable[[type[nn.Module]], type[nn.Module]]:
    """Class decorator: `model.mixer=NAME` builds this mixer, and its options are fields of `model`."""

    def add(mixer: type[nn.Module]) -> type[nn.Module]:
        for declared, field in options(mixer).items():
            ModelConfig.declare(declared, field)
        _CLASSES[name], MIXERS[name] = mixer, mixer.causal
        CHECKS[name], SPLIT_CHECKS[name] = mixer.check, mixer.check_split
        return mixer

    return add


def options(mixer: type[nn.Module]) -> dict[str, dataclasses.Field]:
    """The fields of a mixer that are its options, by their names in the configuration."""
    fields = [field for field in dataclasses.fields(mixer) if "help" in field.metadata]
    return {field.metadata["declared_as"] or field.name: field for field in fields}


def mixer_class(name: str) -> type[nn.Module]:
    """The class that is registered as `name`."""
    return _CLASSES[name]


def build_mixer(name: str, config: ModelConfig) -> nn.Module:
    """The mixer that a configuration names."""
    mixer = _CLASSES[name]
    chosen = {field.name: getattr(config, declared) for declared, field in options(mixer).items()}
    shared = {"width": config.width, "dtype": jnp.dtype(config.dtype)}
    shared |= {"precision": config.precision, "implementation": config.implementation}
    names = {field.name for field in dataclasses.fields(mixer)}
    return mixer(**chosen, **{name: value for name, value in shared.items() if name in names})


def zero_pads(x_BND: jax.Array, pads_B: jax.Array | None) -> jax.Array:
    """The input with 0 at the left pads of each row, as a mixer sees what lies before the start.

    `pads_B` counts the places before each row's start, in a batch of rows of different lengths. A mixer's `prefill`
    takes them with an empty cache only; None stands for no pads.
    """
    if pads_B is None:
        return x_BND
    real_BN = jnp.arange(x_BND.shape[1])[None] >= pads_B[:, None]
    return jnp.where(real_BN[:, :, None], x_BND, jnp.zeros((), x_BND.dtype))
