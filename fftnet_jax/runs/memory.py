"""Whether a run fits in the memory that there is, before any of it is taken, and which fields to change if not."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from fftnet_jax.config import Config
from fftnet_jax.errors import ConfigError
from fftnet_jax.mixers.base import mixer_class, options
from fftnet_jax.parallel.memory import shortage

PROGRAM = 100_000  # bytes of the host that a block takes at least while the program is traced
FIELDS = (
    "model.width",
    "model.num_layers",
    "model.ffn_width",
    "model.max_length",
    "data.batch_size",
    "data.length",
    "training.eval_batch_size",
)


@dataclass(frozen=True)
class Need:
    """Bytes that something takes at least: on each device, and of the host, devices apart."""

    device: int
    host: int


def check_memory(config: Config, need_of: Callable[[Config], Need], devices: list, what: str) -> None:
    """Raises ConfigError where `need_of(config)` is more than `devices` of this process and its host have.

    Args:
      what: needs it, such as "parameters and one step".
    """

    def lack(config: Config) -> int:
        return shortage(**vars(need_of(config)), devices=devices)[0]

    worst, words = shortage(**vars(need_of(config)), devices=devices)
    if worst:
        raise ConfigError(f"{_culprits(config, lack, worst)}: {what} need at least {words}")


def _culprits(config: Config, lack: Callable[[Config], int], worst: int) -> str:
    """The fields to lower: each that would do alone if it had its default, else those that must come down together."""
    names, left, smaller = [], worst, config
    while left and len(names) < 4:
        lacks = {}
        for name in (*FIELDS, *_options(config), "model.vocab_size"):
            if _get(smaller, name) > _default(smaller, name) and (less := _lowered(smaller, name)):
                lacks[name] = lack(less)
        if not names and 0 in lacks.values():
            return _must_be_lower(config, [name for name, missing in lacks.items() if not missing], " or ")
        best = min(lacks, key=lacks.get, default=None)
        if best is None or lacks[best] >= left:
            break
        names.append(best)
        smaller, left = _lowered(smaller, best), lacks[best]
    return _must_be_lower(config, names, " and ")


def _must_be_lower(config: Config, names: list[str], joint: str) -> str:
    if not names:
        return "model.width, model.num_layers or data.batch_size must be lower"
    values = " and ".join(str(_get(config, name)) for name in names)
    return f"{joint.join(_said(config, name) for name in names)} must be lower, got {values}"


def _lowered(config: Config, name: str) -> Config | None:
    """The configuration with the default of a field, and of its mixers' options where it doesn't go with them."""
    changes = {name: _default(config, name)}
    if name == "data.length" and config.model.max_length == config.data.length:  # which follows it
        changes["model.max_length"] = changes[name]
    for more in ({}, {option: _default(config, option) for option in _options(config)}):
        try:
            return _with(config, more | changes)
        except ConfigError:
            continue
    return None


def _said(config: Config, name: str) -> str:
    """The field that a user sets: the vocabulary is the data's."""
    if name != "model.vocab_size":
        return name
    patterns = config.data.source == "patterns" and not config.data.text_file
    return "data.vocab_size" if patterns else "the vocabulary of data.tokenizer"


def _options(config: Config) -> list[str]:
    """The numbers among the options of a configuration's mixers."""
    names = {config.model.mixer} if isinstance(config.model.mixer, str) else set(config.model.mixer)
    found = (options(mixer_class(name)) for name in sorted(names))
    return [f"model.{name}" for fields in found for name, field in fields.items() if type(field.default) is int]


def _default(config: Config, name: str) -> int:
    following = {
        "model.vocab_size": 256,
        "model.max_length": config.data.length,
        "training.eval_batch_size": config.data.batch_size,
    }
    if name in following:
        return following[name]
    section, _, field = name.partition(".")
    default = next(f.default for f in dataclasses.fields(getattr(config, section)) if f.name == field)
    return max(default, config.training.accumulation) if name == "data.batch_size" else default


def _get(config: Config, name: str) -> int:
    section, _, field = name.partition(".")
    return getattr(getattr(config, section), field)


def _with(config: Config, changes: dict[str, int]) -> Config:
    sections = {}
    for name, value in changes.items():
        section, _, field = name.partition(".")
        sections.setdefault(section, {})[field] = value
    made = {name: dataclasses.replace(getattr(config, name), **fields) for name, fields in sections.items()}
    return dataclasses.replace(config, **made)
