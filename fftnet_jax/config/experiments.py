"""Experiment files, and what a command line changes of them."""

import dataclasses
import importlib.util
from pathlib import Path

from ml_collections import ConfigDict

from fftnet_jax.config.fields import Section, hint, parse
from fftnet_jax.config.schema import Config, from_dict
from fftnet_jax.errors import ConfigError


def load_config(path: str, overrides: list[str] = ()) -> Config:
    """Run `get_config()` of the Python file `path`, apply `a.b=value` overrides, check, freeze.

    Raises:
      ConfigError: missing file, no `get_config`, unknown field, wrong type or value.
    """
    values = _experiment(path)
    if not isinstance(values, dict):
        raise ConfigError(f"get_config() of {path} must return a ConfigDict, got {type(values).__name__}")
    for override in overrides:
        _override(values, override)
    return from_dict(values)


def _experiment(path: str):
    file = Path(path)
    if not file.is_file():
        raise ConfigError(
            f"--config must name an experiment file, such as experiments/shakespeare.py; no file {path!r}"
        )
    spec = importlib.util.spec_from_file_location(f"experiment_{file.stem}", file)
    if spec is None:
        raise ConfigError(f"--config must name a Python file (.py), got {path!r}")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        if not hasattr(module, "get_config"):
            raise ConfigError(f"{path} must define get_config(), and does not")
        config = module.get_config()
        return config.to_dict() if isinstance(config, ConfigDict) else config
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:  # the user's file: any error in it is theirs to see, in one line
        raise ConfigError(f"{path} failed: {type(error).__name__}: {' '.join(str(error).split())}") from error


def _override(values: dict, override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"an override must look like --config.a.b=value, got --config.{override}")
    *sections, last = name.split(".")
    section, known = values, Config
    for depth, part in enumerate(sections):
        kinds = {f.name: f.type for f in dataclasses.fields(known)}
        if not (isinstance(kinds.get(part), type) and issubclass(kinds[part], Section)):
            path = ".".join(sections[: depth + 1])
            raise ConfigError(f"unknown field {path}{hint(part, kinds)}")
        section, known = section.setdefault(part, {}), kinds[part]
        if not isinstance(section, dict):
            raise ConfigError(f"{'.'.join(sections[: depth + 1])} must be a mapping of fields, got {section!r}")
    fields = {field.name: field for field in dataclasses.fields(known)}
    if last not in fields:
        raise ConfigError(f"unknown field {name}{hint(last, fields)}")
    if isinstance(fields[last].type, type) and issubclass(fields[last].type, Section):
        raise ConfigError(
            f"{name} is a section; set a field of it, such as {name}.{dataclasses.fields(fields[last].type)[0].name}"
        )
    section[last] = parse(text, fields[last].type)
