"""The sizes of a teacher, read from what Hugging Face's `config.json` calls them."""

import dataclasses
import sys
from dataclasses import dataclass

from fftnet_jax.errors import ConfigError

FAMILIES = ("llama", "qwen2")
ROPE_TYPES = ("default", "linear", "llama3")
MOST = 2**31 - 1
LARGEST = sys.float_info.max


@dataclass(frozen=True)
class RopeScaling:
    """How rotary frequencies are slowed for contexts beyond the first training's; see `rope.frequencies`.

    `kind` "linear" divides all of them by `factor`; "llama3" only the slow ones, those of fewer than
    `low_frequency_factor` turns in `original_length` tokens, and blends up to `high_frequency_factor` turns.
    """

    kind: str
    factor: float
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 4.0
    original_length: int = 8192


@dataclass(frozen=True)
class TeacherConfig:
    """Sizes and choices of a Qwen2 or Llama decoder."""

    family: str
    vocab_size: int
    width: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    ffn_width: int
    max_length: int
    norm_epsilon: float
    rope_theta: float
    rope_scaling: RopeScaling | None
    qkv_bias: bool
    out_bias: bool
    ffn_bias: bool
    tie_head: bool
    eos_ids: tuple[int, ...] = ()
    dtype: str = "float32"  # of parameters and products; norms, rotations and softmax are float32


def read_config(values: dict, source: str) -> TeacherConfig:
    """The teacher that the fields of a `config.json` describe.

    Args:
      source: the file, for messages.

    Raises:
      ConfigError: an unknown architecture, or a field that is missing, of another type or not supported.
    """
    fields = _Fields(values, source)
    family = values.get("model_type")
    if family not in FAMILIES:
        named = values.get("architectures")
        raise ConfigError(f"{source}: model_type must be one of {', '.join(FAMILIES)}, got {family!r} ({named})")
    if (act := values.get("hidden_act", "silu")) != "silu":
        raise ConfigError(f"{source}: hidden_act must be 'silu', got {act!r}")
    if values.get("use_sliding_window"):
        raise ConfigError(f"{source}: use_sliding_window must be false: windows are not supported, got true")
    width, heads = fields.size("hidden_size"), fields.size("num_attention_heads")
    kv_heads = fields.size("num_key_value_heads", heads)
    if heads % kv_heads:
        raise ConfigError(
            f"{source}: num_attention_heads must be a multiple of num_key_value_heads ({kv_heads}), got {heads}"
        )
    if values.get("head_dim") is None and width % heads:
        raise ConfigError(f"{source}: hidden_size must be a multiple of num_attention_heads ({heads}), got {width}")
    head_dim = fields.size("head_dim", width // heads)
    if head_dim % 2:
        raise ConfigError(f"{source}: head_dim must be even for rotary positions, got {head_dim}")
    attention_bias = fields.flag("attention_bias")
    theta, scaling = _rope(values, source)
    return TeacherConfig(
        family=family,
        vocab_size=fields.size("vocab_size"),
        width=width,
        num_layers=fields.size("num_hidden_layers"),
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        ffn_width=fields.size("intermediate_size"),
        max_length=fields.size("max_position_embeddings", 2048),
        norm_epsilon=fields.positive("rms_norm_eps", 1e-6),
        rope_theta=theta,
        rope_scaling=scaling,
        qkv_bias=family == "qwen2" or attention_bias,
        out_bias=family == "llama" and attention_bias,
        ffn_bias=family == "llama" and fields.flag("mlp_bias"),
        tie_head=fields.flag("tie_word_embeddings"),
        eos_ids=_eos_ids(values.get("eos_token_id"), source),
    )


def _rope(values: dict, source: str) -> tuple[float, RopeScaling | None]:
    """Base and scaling, from `rope_parameters` (transformers 5) or `rope_theta` and `rope_scaling` (before)."""
    rope = values.get("rope_parameters") or {}
    old = values.get("rope_scaling") or {}
    for name, part in (("rope_parameters", rope), ("rope_scaling", old)):
        if not isinstance(part, dict):
            raise ConfigError(f"{source}: {name} must be an object, got {part!r}")
    rope = {**old, **rope}
    if "rope_theta" not in rope and values.get("rope_theta") is not None:
        rope["rope_theta"] = values["rope_theta"]
    fields = _Fields(rope, source)
    theta = fields.positive("rope_theta", 10_000.0)
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ROPE_TYPES:
        raise ConfigError(f"{source}: rope_type must be one of {', '.join(ROPE_TYPES)}, got {kind!r}")
    if (share := values.get("partial_rotary_factor", rope.get("partial_rotary_factor", 1.0))) != 1.0:
        raise ConfigError(f"{source}: partial_rotary_factor must be 1, got {share!r}")
    if kind == "default":
        return theta, None
    if kind == "linear":
        return theta, RopeScaling(kind, fields.positive("factor"))
    low, high = fields.positive("low_freq_factor"), fields.positive("high_freq_factor")
    if high <= low:
        raise ConfigError(f"{source}: high_freq_factor must be above low_freq_factor ({low}), got {high}")
    original = fields.size("original_max_position_embeddings")
    return theta, RopeScaling(kind, fields.positive("factor"), low, high, original)


def _eos_ids(value, source: str) -> tuple[int, ...]:
    ids = () if value is None else tuple(value) if isinstance(value, list) else (value,)
    if any(type(i) is not int or not 0 <= i <= MOST for i in ids):
        raise ConfigError(f"{source}: eos_token_id must be a token id or a list of them, got {value!r}")
    return ids


@dataclasses.dataclass
class _Fields:
    """Checked access to the fields of a file."""

    values: dict
    source: str

    def size(self, name: str, default: int | None = None) -> int:
        value = self._get(name, default)
        if type(value) is not int or not 1 <= value <= MOST:
            raise ConfigError(f"{self.source}: {name} must be a whole number from 1 to 2^31 - 1, got {value!r}")
        return value

    def positive(self, name: str, default: float | None = None) -> float:
        value = self._get(name, default)
        if type(value) not in (int, float) or not 0 < value <= LARGEST:
            raise ConfigError(f"{self.source}: {name} must be a number above 0, got {str(value)[:40]}")
        return float(value)

    def flag(self, name: str) -> bool:
        value = self._get(name, False)
        if type(value) is not bool:
            raise ConfigError(f"{self.source}: {name} must be true or false, got {value!r}")
        return value

    def _get(self, name, default):
        value = self.values.get(name)
        if value is None:
            value = default
        if value is None:
            raise ConfigError(f"{self.source}: {name} is missing")
        return value
