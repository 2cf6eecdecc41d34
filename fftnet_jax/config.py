"""Typed configuration: every knob declared once, with its unit, its limits and its help line.

An experiment file returns an `ml_collections.ConfigDict` made by `default_config()`. `load_config`
turns it into the frozen dataclasses below, once, at the entrance; past that point code sees checked
values. A bad value raises `ConfigError`, one line that names the field, the value and what would be right.
"""

import argparse
import ast
import dataclasses
import difflib
import importlib.util
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

MIXERS = {  # name → whether position t depends on positions up to t only
    "causal_fftnet": True,
    "causal_stft": True,
    "attention": True,
    "fftnet": False,
    "fourier": False,
}
STFT_FORMS = ("auto", "windows", "direct", "blocks", "linear_phase")  # `spectral.plan` says what they are
CAUSAL_MIXERS = tuple(name for name, causal in MIXERS.items() if causal)
LARGEST = 2**31 - 1  # what an int32 on the device, and a seed, can hold


class ConfigError(ValueError):
    """A setting that cannot be right; the message is one line for the user."""


class Arguments(argparse.ArgumentParser):
    """A command line whose errors are one line, like those of the configuration."""

    def error(self, message: str):
        raise ConfigError(message)


def knob(default, help, *, minimum=None, maximum=None, above=None, below=None, choices=None):
    """A dataclass field with what its check and `--help` need."""
    limits = {"minimum": minimum, "maximum": maximum, "above": above, "below": below}
    return dataclasses.field(default=default, metadata={"help": help, "choices": choices, **limits})


class Section:
    """Base of the sections: coerces and checks every declared field on construction."""

    prefix = ""

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = _coerce(self.prefix + field.name, getattr(self, field.name), field)
            object.__setattr__(self, field.name, value)
            if field.metadata:
                _check_limits(self.prefix + field.name, value, field.metadata)


@dataclass(frozen=True)
class DataConfig(Section):
    prefix = "data."

    source: str = knob(
        "shakespeare", "corpus or task", choices=("shakespeare", "tinyshakespeare", "gsm8k", "patterns", "recall")
    )
    text_file: str = knob("", "UTF-8 text file; when set it replaces `source`")
    tokenizer: str = knob("char", "char | byte | tiktoken:ENCODING | hf:NAME_OR_FOLDER | gguf:FILE | gguf:smollm2")
    split: tuple[float, ...] = knob((0.9, 0.05, 0.05), "contiguous shares: train, validation[, test]")
    length: int = knob(256, "tokens per sequence", minimum=1)
    batch_size: int = knob(32, "sequences per optimiser step", minimum=1)
    stride: int = knob(1, "tokens between the starts of training windows", minimum=1)
    mask_rate: float = knob(0.15, "share of tokens to predict (encoder only)", above=0, below=1)
    folder: str = knob("", "`gsm8k`: folder with train.jsonl and test.jsonl; empty takes the Hugging Face hub's")
    num_problems: int = knob(0, "`gsm8k`: first problems of train.jsonl; 0 for all but the held-out ones", minimum=0)
    num_validation: int = knob(200, "`gsm8k`: problems held out, those right after the training ones", minimum=1)
    num_test: int = knob(0, "`gsm8k`: first problems of test.jsonl; 0 for all", minimum=0)
    loss_on: str = knob("all", "`gsm8k`: tokens that count, all or those of the answers", choices=("all", "answer"))
    packing: bool = knob(False, "`gsm8k`: join problems into one stream and cut windows; else one problem a sequence")
    reduce_vocabulary: bool = knob(False, "`gsm8k`: leave out the tokens that no problem of either file holds")
    num_samples: int = knob(4096, "sequences in a synthetic task, all splits together", minimum=3)
    vocab_size: int = knob(64, "tokens in the `patterns` task", minimum=2)
    pattern_complexity: float = knob(0.5, "`patterns`: 10 × this many copied runs a sequence", minimum=0)
    num_keys: int = knob(16, "`recall`: key-value pairs a sequence", minimum=1)
    num_values: int = knob(16, "`recall`: possible values; chance is 1 / this", minimum=2)
    num_queries: int = knob(1, "`recall`: last tokens asked in training; held-out ones ask the very last", minimum=1)

    def __post_init__(self):
        super().__post_init__()
        split = self.split
        if len(split) not in (2, 3) or min(split) < 0 or min(split[:2]) <= 0 or abs(sum(split) - 1) > 1e-6:
            raise ConfigError(
                f"data.split must be two or three shares (train, validation[, test]) that add up to 1, got {split}"
            )


@dataclass(frozen=True)
class ModelConfig(Section):
    """Sizes and choices of a decoder or encoder; see `fftnet_jax.models`."""

    prefix = "model."

    family: str = knob(
        "decoder", "decoder predicts the next token, encoder masked ones", choices=("decoder", "encoder")
    )
    mixer: Any = knob("causal_fftnet", "token mixer, or one per layer: " + ", ".join(MIXERS))  # noqa: RUF009
    vocab_size: int = knob(0, "tokens; 0 takes the tokenizer's", minimum=0)
    width: int = knob(128, "channels D", minimum=1)
    num_layers: int = knob(4, "blocks", minimum=1)
    ffn_width: int = knob(512, "hidden channels of the feed-forward part; 0 leaves it out", minimum=0)
    activation: str = knob(
        "gelu", "of the feed-forward part; gelu is the exact erf form", choices=("gelu", "gelu_tanh", "relu2")
    )
    max_length: int = knob(0, "longest sequence in tokens; 0 takes data.length", minimum=0)
    dropout: float = knob(0.0, "rate", minimum=0, below=1)
    block_norm: str = knob("pre", "where a block normalises", choices=("pre", "post", "both", "none"))
    norm_epsilon: float = knob(1e-5, "added to the variance", above=0)
    final_norm: bool = knob(True, "normalise before the head")
    embedding_norm: bool = knob(False, "normalise after the embedding")
    embedding_scale: bool = knob(False, "multiply token embeddings by sqrt(width)")
    positions: str = knob("none", "position embedding", choices=("none", "learned", "sinusoidal"))
    tie_head: bool = knob(True, "the head reuses the token embedding")
    head_bias: bool = knob(False, "the head has a bias")
    dtype: str = knob("float32", "compute type; parameters and FFTs stay float32", choices=("float32", "bfloat16"))
    remat: bool = knob(False, "recompute blocks in the backward pass to save memory")
    window: int = knob(32, "causal_stft: tokens per window", minimum=1)
    spectrum: str = knob("real", "causal_stft: real part or real - imaginary", choices=("real", "hartley"))
    spectrum_norm: str = knob("none", "causal_stft: FFT scaling", choices=("none", "ortho"))
    stft_form: str = knob("auto", "causal_stft: how it is computed, to the same numbers", choices=STFT_FORMS)
    num_heads: int = knob(4, "attention: heads", minimum=1)
    filter_width: int = knob(512, "fftnet: hidden channels of the filter's network", minimum=1)
    filter: str = knob(
        "channel", "fftnet: gain per channel, or per frequency and channel", choices=("channel", "frequency")
    )
    filter_points: int = knob(16, "fftnet, filter=frequency: control points from 0 to Nyquist", minimum=2)
    filter_modes: int = knob(32, "causal_fftnet: damped oscillations that span the filters", minimum=1)
    filter_horizon: int = knob(4096, "causal_fftnet: slowest decay time at the start, tokens", minimum=2)
    short_filter: int = knob(4, "causal_fftnet: taps of the local filters before the gates", minimum=1)

    def __post_init__(self):
        super().__post_init__()
        names = (self.mixer,) if isinstance(self.mixer, str) else self.mixer
        if len(names) not in (1, self.num_layers):
            raise ConfigError(
                f"model.mixer must be one name or model.num_layers ({self.num_layers}) names, got {len(names)}: {names}"
            )
        for name in names:
            if name not in MIXERS:
                raise ConfigError(f"model.mixer must be one of {', '.join(MIXERS)}{_hint(name, MIXERS)}, got {name!r}")
            if self.family == "decoder" and not MIXERS[name]:
                raise ConfigError(
                    f"model.mixer {name!r} is bidirectional: in a decoder it would see the tokens it must predict; "
                    f"use 'causal_fftnet', its causal form, or model.family='encoder'"
                )
        if "attention" in names and self.width % (2 * self.num_heads):
            raise ConfigError(
                f"model.width must be a multiple of 2 × model.num_heads ({2 * self.num_heads}) for attention, "
                f"got {self.width}"
            )
        if self.positions == "sinusoidal" and self.width % 2:
            raise ConfigError(f"model.width must be even for sinusoidal positions, got {self.width}")
        if self.positions == "learned" and self.vocab_size and not self.max_length:
            raise ConfigError("model.max_length must be at least 1 for learned positions, got 0")

    @property
    def mixers(self) -> tuple[str, ...]:
        """One mixer name per layer."""
        return (self.mixer,) * self.num_layers if isinstance(self.mixer, str) else _spread(self.mixer, self.num_layers)


@dataclass(frozen=True)
class TrainingConfig(Section):
    prefix = "training."

    num_steps: int = knob(2000, "optimiser steps", minimum=1)
    num_epochs: float = knob(0.0, "passes over the training windows; when above 0 it replaces num_steps", minimum=0)
    eval_every: int = knob(250, "steps between validations; 0 for the end only", minimum=0)
    eval_every_epochs: float = knob(0.0, "when above 0 it replaces eval_every", minimum=0)
    checkpoint_every: int = knob(250, "steps between checkpoints; 0 for the end only", minimum=0)
    log_every: int = knob(20, "steps between log lines", minimum=1)
    histogram_every: int = knob(0, "steps between histograms of parameters and gradients; 0 for none", minimum=0)
    eval_batch_size: int = knob(0, "sequences per evaluation batch; 0 takes data.batch_size", minimum=0)
    optimizer: str = knob(
        "adamw", "muon: Muon for matrices in the blocks, AdamW for the rest", choices=("adamw", "muon")
    )
    learning_rate: float = knob(1e-3, "peak", above=0)
    schedule: str = knob("cosine", "after warm-up", choices=("cosine", "linear", "exponential", "constant"))
    warmup_steps: int = knob(100, "steps of linear warm-up", minimum=0)
    final_fraction: float = knob(0.1, "cosine and linear: last learning rate over the peak", minimum=0, maximum=1)
    decay_per_epoch: float = knob(0.99, "exponential: factor per epoch", above=0, maximum=1)
    weight_decay: float = knob(0.1, "decoupled, on matrices", minimum=0)
    beta1: float = knob(0.9, "AdamW", minimum=0, below=1)
    beta2: float = knob(0.99, "AdamW", minimum=0, below=1)
    momentum: float = knob(0.95, "Muon", minimum=0, below=1)
    clip_norm: float = knob(1.0, "largest global gradient norm; 0 for no limit", minimum=0)
    accumulation: int = knob(1, "micro-batches a step", minimum=1)
    max_spike: float = knob(
        3.0, "nats above the running mean of the loss from which an update is skipped; 0 for no limit", minimum=0
    )
    max_skipped: int = knob(20, "stop after this many skipped updates in a row: NaN or spikes", minimum=1)
    init_from: str = knob("", "run folder whose best parameters this run starts from")


@dataclass(frozen=True)
class DistillationConfig(Section):
    """Whom a student learns from, beside the text; see `fftnet_jax.distillation`."""

    prefix = "distillation."

    teacher: str = knob("", "folder, GGUF file, smollm2, or OWNER/MODEL on the Hugging Face hub; empty for none")
    teacher_dtype: str = knob("bfloat16", "of the teacher's weights and products", choices=("float32", "bfloat16"))
    shards: str = knob("", "folder of the teacher's stored log-probabilities; empty runs the teacher in every step")
    alpha: float = knob(0.5, "share of the cross-entropy; the rest is the divergence", minimum=0, maximum=1)
    temperature: float = knob(2.0, "T of the divergence, which is multiplied by T²", above=0)
    top_k: int = knob(64, "shards: log-probabilities kept per token; 0 keeps all", minimum=0)
    rows_per_shard: int = knob(64, "shards: rows in a file", minimum=1)
    teacher_batch_size: int = knob(16, "shards: rows that the teacher reads at a time", minimum=1)

    @property
    def active(self) -> bool:
        """Whether a teacher has any say."""
        return bool(self.teacher or self.shards) and self.alpha < 1


@dataclass(frozen=True)
class MeshConfig(Section):
    """How a run is laid over its devices, of one host or many; see `fftnet_jax.training.sharding`."""

    prefix = "mesh."

    data: int = knob(-1, "devices that share the rows of a batch; -1 for all that the other axes leave", minimum=-1)
    fsdp: int = knob(1, "devices that share rows, and keep a part of the parameters each", minimum=1)
    model: int = knob(1, "devices that share the tokens of a row, and keep a part of the parameters each", minimum=1)

    def __post_init__(self):
        super().__post_init__()
        if self.data == 0:
            raise ConfigError("mesh.data must be at least 1, or -1 for all devices that the other axes leave, got 0")


@dataclass(frozen=True)
class SampleConfig(Section):
    """The text printed at the end of training and written to TensorBoard at each validation."""

    prefix = "sample."

    prompt: str = knob("", "text to continue; empty takes the start of the validation text")
    max_new_tokens: int = knob(300, "tokens", minimum=0)
    temperature: float = knob(0.8, "0 is greedy", minimum=0)
    top_k: int = knob(40, "keep the k likeliest tokens; 0 keeps all", minimum=0)
    top_p: float = knob(1.0, "keep the likeliest tokens up to this mass", above=0, maximum=1)


@dataclass(frozen=True)
class Config(Section):
    seed: int = knob(0, "of initial parameters, data order, dropout and samples", minimum=0)
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
        if self.model.family == "encoder" and self.data.source == "recall" and not self.data.text_file:
            raise ConfigError("data.source 'recall' needs model.family 'decoder', got 'encoder'")
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
            raise ConfigError(f"unknown field {prefix}{name}{_hint(name, fields)}")
        kind = fields[name].type
        nested = isinstance(kind, type) and issubclass(kind, Section)
        kwargs[name] = from_dict(value, kind, f"{prefix}{name}.") if nested else value
    return section(**kwargs)


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
            choices = field.metadata["choices"]
            text = field.metadata["help"] + (f" ({' | '.join(choices)})" if choices else "")
            lines.append(f"  --{prefix}{field.name}={field.default!r}  {text}")
    return lines


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
            raise ConfigError(f"unknown field {path}{_hint(part, kinds)}")
        section, known = section.setdefault(part, {}), kinds[part]
        if not isinstance(section, dict):
            raise ConfigError(f"{'.'.join(sections[: depth + 1])} must be a mapping of fields, got {section!r}")
    fields = {field.name: field for field in dataclasses.fields(known)}
    if last not in fields:
        raise ConfigError(f"unknown field {name}{_hint(last, fields)}")
    if isinstance(fields[last].type, type) and issubclass(fields[last].type, Section):
        raise ConfigError(
            f"{name} is a section; set a field of it, such as {name}.{dataclasses.fields(fields[last].type)[0].name}"
        )
    section[last] = _parse(text, fields[last].type)


def _parse(text: str, kind):
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
            f"{name} must be one of {', '.join(limits['choices'])}{_hint(value, limits['choices'])}, got {value!r}"
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


def _hint(name, known) -> str:
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _spread(names: tuple[str, ...], num_layers: int) -> tuple[str, ...]:
    return names * num_layers if len(names) == 1 else names
