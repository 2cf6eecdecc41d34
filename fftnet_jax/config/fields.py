"""What a section of the configuration is made of: fields that know their limits, and whether a run may change them."""

import ast
import dataclasses
import difflib
import math
from typing import Any

from fftnet_jax.errors import ConfigError

LARGEST = 2**31 - 1  # what an int32 on the device, and a seed, can hold

# Whether a field may change when a run goes on; see `RunFolder.claim`.
FREE = "free"  # neither the parameters nor the numbers in the metrics file depend on it
ASK = "ask"  # with --accept_changes
DATA = "data"  # so too, and the order of the data begins anew
FIXED = "fixed"  # never: the stored arrays would fit nothing


def knob(
    default,
    help,
    *,
    minimum=None,
    maximum=None,
    above=None,
    below=None,
    choices=None,
    known=None,
    resume=None,
    declared_as=None,
):
    """A dataclass field with what its check, `--help` and a resumed run need.

    Args:
      choices: the values that it may have; a dict of them may grow.
      known: those that `--help` names, where there may be others.
      resume: `FREE`, `ASK`, `DATA` or `FIXED`; None takes the section's.
      declared_as: the field's name in the configuration, where a mixer calls it otherwise.
    """
    limits = {"minimum": minimum, "maximum": maximum, "above": above, "below": below}
    more = {"help": help, "choices": choices, "known": known, "resume": resume, "declared_as": declared_as}
    return dataclasses.field(default=default, metadata={**more, **limits})


class Section:
    """Base of the sections: coerces and checks every declared field on construction."""

    prefix = ""
    resume = ASK

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = _coerce(self.prefix + field.name, getattr(self, field.name), field)
            object.__setattr__(self, field.name, value)
            if field.metadata:
                _check_limits(self.prefix + field.name, value, field.metadata)


class OpenSection(Section):
    """A section to which others add fields: what a registered mixer can be told is a field of `model`.

    Subclasses are frozen dataclasses with init, eq and repr left to this one.
    """

    def __init__(self, **values):
        fields = dataclasses.fields(self)
        if unknown := values.keys() - {field.name for field in fields}:
            raise TypeError(f"{type(self).__name__} has no field {', '.join(sorted(unknown))}")
        for field in fields:
            object.__setattr__(self, field.name, values.get(field.name, field.default))
        self.__post_init__()

    def __eq__(self, other):
        return type(other) is type(self) and self._values() == other._values()

    def __hash__(self):
        return hash(self._values())

    def __repr__(self):
        shown = (f"{f.name}={getattr(self, f.name)!r}" for f in dataclasses.fields(self))
        return f"{type(self).__name__}({', '.join(shown)})"

    def _values(self):
        return tuple(getattr(self, field.name) for field in dataclasses.fields(self))

    @classmethod
    def declare(cls, name: str, field: dataclasses.Field) -> None:
        """Adds `field`, another class's, under `name`.

        Raises:
          ValueError: the name is taken by another field.
        """
        known = cls.__dataclass_fields__.get(name)
        if known is not None and (known.type, known.default, known.metadata) != (
            field.type,
            field.default,
            field.metadata,
        ):
            raise ValueError(f"{cls.prefix}{name} is a field already, with another default or other limits")
        copy = dataclasses.field(default=field.default, metadata=field.metadata)
        made = dataclasses.make_dataclass("Declared", [(name, field.type, copy)])
        cls.__dataclass_fields__[name] = dataclasses.fields(made)[0]
        setattr(cls, name, field.default)  # for what was made before


def _coerce(name: str, value, field):
    kind = field.type
    if kind is Any:
        value = tuple(value) if isinstance(value, list) else value
        if isinstance(value, str) or (isinstance(value, tuple) and value and all(isinstance(v, str) for v in value)):
            return value
        raise ConfigError(f"{name} must be a name or a tuple of names, got {value!r}")
    if kind is float and type(value) in (int, float):
        return _finite(name, value)
    if kind is int and type(value) is int and abs(value) > LARGEST:
        raise ConfigError(f"{name} must be at most 2^31 - 1, got {value}")
    if kind == tuple[float, ...] and isinstance(value, (list, tuple)):
        if all(type(v) in (int, float) for v in value):
            return tuple(_finite(name, v) for v in value)
    elif isinstance(kind, type) and type(value) is kind:
        return value
    wanted = getattr(kind, "__name__", str(kind)) if kind != tuple[float, ...] else "tuple of numbers"
    raise ConfigError(f"{name} must be of type {wanted}, got {value!r} ({type(value).__name__})")


def _finite(name: str, value) -> float:
    try:
        if math.isfinite(value):
            return float(value)
    except OverflowError:  # an int beyond any float
        pass
    raise ConfigError(f"{name} must be a finite number, got {value}")


def _check_limits(name: str, value, limits) -> None:
    if limits["choices"] and value not in limits["choices"]:
        raise ConfigError(
            f"{name} must be one of {', '.join(limits['choices'])}{hint(value, limits['choices'])}, got {value!r}"
        )
    tests = (
        ("minimum", "at least", lambda limit: value >= limit),
        ("maximum", "at most", lambda limit: value <= limit),
        ("above", "above", lambda limit: value > limit),
        ("below", "below", lambda limit: value < limit),
    )
    bounds = [(word, limits[key], test) for key, word, test in tests if limits[key] is not None]
    if not all(test(limit) for _, limit, test in bounds):
        wanted = " and ".join(f"{word} {limit}" for word, limit, _ in bounds)
        raise ConfigError(f"{name} must be {wanted} ({limits['help']}), got {value}")


def parse(text: str, kind):
    """The value that `text` spells for a field of type `kind`; what can't be read stays text for the check."""
    if kind is str:
        return text
    if kind is bool and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if kind is Any:  # a name, or several
        text = text.strip("()[] ").replace("'", "").replace('"', "")
        return tuple(part.strip() for part in text.split(",") if part.strip()) if "," in text else text
    try:
        return float(text) if kind is float else ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):  # all that literal_eval may raise
        return text


def hint(name, known) -> str:
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""
