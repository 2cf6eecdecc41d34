"""The whole configuration: its sections, and its way to and from plain dictionaries."""

import dataclasses
import json
from dataclasses import dataclass

from ml_collections import ConfigDict

from fftnet_jax.config.data import SOURCES, DataConfig
from fftnet_jax.config.distillation import DistillationConfig
from fftnet_jax.config.fields import DATA, Section, hint, knob
from fftnet_jax.config.mesh import MeshConfig
from fftnet_jax.config.model import ModelConfig
from fftnet_jax.config.sample import SampleConfig
from fftnet_jax.config.training import TrainingConfig
from fftnet_jax.errors import ConfigError


@dataclass(frozen=True)
class Config(Section):
    seed: int = knob(0, "of initial parameters, data order, dropout and samples", minimum=0, resume=DATA)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    distillation: DistillationConfig = dataclasses.field(default_factory=DistillationConfig)
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
    sample: SampleConfig = dataclasses.field(default_factory=SampleConfig)

    def __post_init__(self):
        super().__post_init__()
        if self.data.batch_size % self.training.accumulation:
            raise ConfigError(
                f"data.batch_size must be a multiple of training.accumulation ({self.training.accumulation}), "
                f"got {self.data.batch_size}"
            )
        longest = self.model.max_length
        if longest and self.data.length > longest and self.model.positions == "learned":
            raise ConfigError(f"data.length must be in 1..model.max_length ({longest}), got {self.data.length}")
        if check := SOURCES.get(self.data.task):
            check(self.data, self.model.family)
        if self.model.family == "encoder" and self.distillation.active:
            raise ConfigError("distillation.teacher needs model.family 'decoder', got 'encoder'")


def default_config() -> ConfigDict:
    """The complete default, for an experiment's `get_config()` to change."""
    # Types are checked once, by `from_dict`; ConfigDict's own check would refuse a tuple of mixers.
    return ConfigDict(to_dict(Config()), type_safe=False)


def to_dict(config: Config) -> dict:
    """Nested plain dictionary of a configuration."""
    return dataclasses.asdict(config)


def from_dict(values, section=Config, prefix: str = "") -> Config:
    """The checked configuration for nested mappings; missing fields take their defaults."""
    if isinstance(values, ConfigDict):
        values = values.to_dict()
    if not isinstance(values, dict):
        raise ConfigError(f"{prefix.rstrip('.') or 'config'} must be a mapping of fields, got {values!r}")
    fields = {field.name: field for field in dataclasses.fields(section)}
    kwargs = {}
    for name, value in values.items():
        if name not in fields:
            raise ConfigError(f"unknown field {prefix}{name}{hint(name, fields)}")
        kind = fields[name].type
        nested = isinstance(kind, type) and issubclass(kind, Section)
        kwargs[name] = from_dict(value, kind, f"{prefix}{name}.") if nested else value
    return section(**kwargs)


def differences(old: dict, new: dict, prefix: str = "") -> list[str]:
    """`field: old value, new value` for each field in which two nested dictionaries differ."""
    lines = []
    for name in sorted(old.keys() | new.keys()):
        a, b = old.get(name), new.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            lines += differences(a, b, f"{prefix}{name}.")
        elif json.dumps(a) != json.dumps(b):
            lines.append(f"{prefix}{name}: {a!r} there, {b!r} here")
    return lines


def describe_fields(section=Config, prefix: str = "config.") -> list[str]:
    """One `--help` line per knob."""
    lines = []
    for field in dataclasses.fields(section):
        if isinstance(field.type, type) and issubclass(field.type, Section):
            lines += describe_fields(field.type, f"{prefix}{field.name}.")
        else:
            choices = field.metadata["choices"] or field.metadata["known"]
            text = field.metadata["help"] + (f" ({' | '.join(choices)})" if choices else "")
            lines.append(f"  --{prefix}{field.name}={field.default!r}  {text}")
    return lines


def resume_policy(name: str) -> str:
    """Whether the field `name`, such as "data.length", may change when a run goes on; see `config.fields`."""
    section = Config
    *sections, last = name.split(".")
    for part in sections:
        section = {field.name: field.type for field in dataclasses.fields(section)}.get(part, section)
    fields = {field.name: field for field in dataclasses.fields(section)}
    return (fields[last].metadata.get("resume") if last in fields else None) or section.resume
