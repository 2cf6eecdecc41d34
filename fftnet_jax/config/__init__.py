"""Typed configuration: every knob declared once, with its unit, its limits and its help line.

An experiment file returns an `ml_collections.ConfigDict` made by `default_config()`. `load_config`
turns it into the frozen dataclasses of this package, once, at the entrance; past that point code sees checked
values. A bad value raises `ConfigError`, one line that names the field, the value and what would be right.
"""

from fftnet_jax.config.command_line import Arguments, parse_config, run_command
from fftnet_jax.config.data import DataConfig
from fftnet_jax.config.distillation import DistillationConfig
from fftnet_jax.config.experiments import load_config
from fftnet_jax.config.fields import LARGEST, knob
from fftnet_jax.config.mesh import MeshConfig
from fftnet_jax.config.model import IMPLEMENTATIONS, MIXERS, ModelConfig
from fftnet_jax.config.sample import SampleConfig
from fftnet_jax.config.schema import (
    Config,
    default_config,
    describe_fields,
    differences,
    from_dict,
    resume_policy,
    to_dict,
)
from fftnet_jax.config.training import TrainingConfig
from fftnet_jax.errors import ConfigError

__all__ = [
    "IMPLEMENTATIONS",
    "LARGEST",
    "MIXERS",
    "Arguments",
    "Config",
    "ConfigError",
    "DataConfig",
    "DistillationConfig",
    "MeshConfig",
    "ModelConfig",
    "SampleConfig",
    "TrainingConfig",
    "default_config",
    "describe_fields",
    "differences",
    "from_dict",
    "knob",
    "load_config",
    "parse_config",
    "resume_policy",
    "run_command",
    "to_dict",
]


def __getattr__(name: str):
    if name == "CAUSAL_MIXERS":  # of the mixers that are registered by now
        return tuple(mixer for mixer, causal in MIXERS.items() if causal)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
