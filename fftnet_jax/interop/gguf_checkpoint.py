"""A teacher in a GGUF file, under Hugging Face's names.

Source: ggml's docs/gguf.md, and llama.cpp's convert_hf_to_gguf.py, whose renaming, permutation of Llama's q and k and
factors of rotary frequencies are undone here.
"""

import math
from pathlib import Path

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

from fftnet_jax.errors import ConfigError
from fftnet_jax.interop.gguf_file import GGUFFile, GGUFTensor, open_gguf

ARCHITECTURES = ("llama", "qwen2")
KINDS = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K")
_KIND_NAMES = {kind.value: kind.name for kind in GGMLQuantizationType}
_TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_ROPE_FACTORS = "rope_freqs.weight"
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


class GGUFCheckpoint:
    """Tensors by name, memory-mapped; `config` has the fields of Hugging Face's `config.json`.

    Raises:
      ConfigError: no GGUF file, one cut short or damaged, an architecture that is not Llama's or Qwen2's, a field or a
        kind of quantisation that is missing or not supported.
    """

    def __init__(self, path: str | Path):
        self._file = open_gguf(path)
        self.path = self._file.path
        architecture = self._file.choice("general.architecture", ARCHITECTURES)
        self._tensors = {}  # Hugging Face's name → where it lies
        for name, tensor in self._file.tensors.items():
            if name != _ROPE_FACTORS:
                self._tensors[self._renamed(name)] = tensor
            self._check(name, tensor)
        self.config = _Config(self._file, architecture).read(self._tensors)
        self._rope_scaling()

    def names(self) -> set[str]:
        return set(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._tensors[name].shape

    def read(self, name: str) -> np.ndarray:
        """The tensor in float32; where it is stored so, a read-only view of the file."""
        array = self._stored(self._tensors[name])
        part = name.removesuffix(".weight").removesuffix(".bias").rsplit(".", 1)[-1]
        heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}.get(part)
        if self.config["model_type"] == "llama" and heads:
            return _unpermuted(array, self.config[heads])
        return array

    @property
    def tokenizer(self) -> str | None:
        """The tokenizer in the file as `data.tokenizer` names it, None where there is none."""
        return f"gguf:{self.path}" if "tokenizer.ggml.tokens" in self._file.metadata else None

    def _renamed(self, name: str) -> str:
        stem, _, ending = name.rpartition(".")
        if ending in ("weight", "bias"):
            if stem in _TOP:
                return f"{_TOP[stem]}.{ending}"
            block, _, part = stem.removeprefix("blk.").partition(".")
            if stem.startswith("blk.") and block.isdecimal() and part in _LAYER:
                return f"model.layers.{int(block)}.{_LAYER[part]}.{ending}"
        raise ConfigError(
            f"{self.path}: tensor {name[:80]!r} has no place in a Llama or Qwen2 model; take another file"
        )

    def _check(self, name: str, tensor: GGUFTensor) -> None:
        kind = _KIND_NAMES.get(tensor.kind, tensor.kind)
        if kind not in KINDS:
            raise ConfigError(
                f"{self.path}: tensor {name[:80]!r} must be one of {', '.join(KINDS)}, got {kind}; take another file"
            )
        block, size = GGML_QUANT_SIZES[tensor.kind]
        if not tensor.shape or tensor.shape[-1] % block or 0 in tensor.shape:
            raise ConfigError(
                f"{self.path}: tensor {name[:80]!r} ({kind}) must have rows of a multiple of {block} weights, "
                f"got shape {tensor.shape}"
            )
        stop = tensor.start + math.prod(tensor.shape) // block * size
        if stop > len(self._file.data):
            raise ConfigError(
                f"{self.path} is cut short: tensor {name[:80]!r} ends at byte {stop}, "
                f"the file at {len(self._file.data)}; fetch it again"
            )

    def _stored(self, tensor: GGUFTensor) -> np.ndarray:
        block, size = GGML_QUANT_SIZES[tensor.kind]
        rows, width = math.prod(tensor.shape[:-1]), tensor.shape[-1] // block * size
        data = self._file.data[tensor.start : tensor.start + rows * width].reshape(rows, width)
        return dequantize(data, GGMLQuantizationType(tensor.kind)).reshape(tensor.shape)

    def _rope_scaling(self) -> None:
        """Llama 3's scaling, of which the file has only the factor of each frequency."""
        tensor = self._file.tensors.get(_ROPE_FACTORS)
        if tensor is None:
            return
        half, theta = self.config["head_dim"] // 2, self.config["rope_theta"]
        found = self._stored(tensor).ravel()
        scaling = {"rope_type": "llama3", "factor": float(found.max()), **_LLAMA3}
        known = found.shape == (half,) and scaling["factor"] > 0
        if not known or not np.allclose(found, _llama3_factors(half, theta, scaling), rtol=1e-3):
            raise ConfigError(
                f"{self.path}: {_ROPE_FACTORS} must hold the factors of Llama 3 for {half} frequencies; others are not "
                "supported: take the model in Hugging Face's format"
            )
        self.config["rope_scaling"] = scaling


class _Config:
    """Fields of `config.json` from metadata."""

    def __init__(self, file: GGUFFile, architecture: str):
        self.file, self.architecture = file, architecture

    def read(self, tensors: dict) -> dict:
        if "model.embed_tokens.weight" not in tensors:
            raise ConfigError(f"{self.file.path}: tensor 'token_embd.weight' is missing; take another file")
        width, heads = self._size("embedding_length"), self._size("attention.head_count")
        head_dim = self._size("attention.key_length", width // heads)
        if self._size("attention.value_length", head_dim) != head_dim:
            raise self._refused("attention.value_length", f"be attention.key_length ({head_dim})")
        if self._size("expert_count", 0, least=0):
            raise self._refused("expert_count", "be 0: mixtures of experts are not supported")
        return {
            "model_type": self.architecture,
            "hidden_size": width,
            "num_hidden_layers": self._size("block_count"),
            "num_attention_heads": heads,
            "num_key_value_heads": self._size("attention.head_count_kv", heads),
            "head_dim": head_dim,
            "intermediate_size": self._size("feed_forward_length"),
            "rms_norm_eps": self._real("attention.layer_norm_rms_epsilon"),
            "rope_theta": self._real("rope.freq_base", 10_000.0),
            "rope_scaling": self._linear_scaling(),
            "partial_rotary_factor": self._size("rope.dimension_count", head_dim) / head_dim,
            "vocab_size": tensors["model.embed_tokens.weight"].shape[0],
            "tie_word_embeddings": "lm_head.weight" not in tensors,
            "attention_bias": self.architecture == "llama" and "model.layers.0.self_attn.q_proj.bias" in tensors,
            "mlp_bias": "model.layers.0.mlp.gate_proj.bias" in tensors,
            "max_position_embeddings": self._size("context_length"),
            "bos_token_id": self._token("bos_token_id"),
            "eos_token_id": self._token("eos_token_id"),
        }

    def _linear_scaling(self) -> dict | None:
        kind = self.file.choice(f"{self.architecture}.rope.scaling.type", ("none", "linear"), "none")
        if kind == "none":
            return None
        return {"rope_type": "linear", "factor": self._real("rope.scaling.factor")}

    def _size(self, name: str, default: int | None = None, least: int = 1) -> int:
        value = self.file.metadata.get(f"{self.architecture}.{name}", default)
        if type(value) is not int or value < least:
            raise self._refused(name, f"be a whole number of at least {least}")
        return value

    def _real(self, name: str, default: float | None = None) -> float:
        value = self.file.metadata.get(f"{self.architecture}.{name}", default)
        if type(value) is not float or not 0 < value < math.inf:
            raise self._refused(name, "be a number above 0")
        return float(str(np.float32(value)))  # what was written: 1e-05 and not 9.999999747378752e-06

    def _token(self, name: str) -> int | None:
        value = self.file.metadata.get(f"tokenizer.ggml.{name}")
        if value is not None and type(value) is not int:
            raise self.file.refusal(f"tokenizer.ggml.{name}", "be a token id")
        return value

    def _refused(self, name: str, wanted: str) -> ConfigError:
        return self.file.refusal(f"{self.architecture}.{name}", wanted)


def _unpermuted(array: np.ndarray, num_heads: int) -> np.ndarray:
    """Rows of each head from pairs (2K, 2K + 1), as ggml rotates them, to halves (K, K + head_dim / 2)."""
    pairs = array.reshape(num_heads, array.shape[0] // num_heads // 2, 2, *array.shape[1:])
    return pairs.swapaxes(1, 2).reshape(array.shape)


def _llama3_factors(half: int, theta: float, scaling: dict) -> np.ndarray:
    """What Llama 3 divides each frequency by: (head_dim / 2,)."""
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    turns_K = theta ** (-np.arange(half) / half) * scaling["original_max_position_embeddings"] / (2 * math.pi)
    kept_K = np.clip((turns_K - low) / (high - low), 0, 1)
    return 1 / (kept_K + (1 - kept_K) / scaling["factor"])
