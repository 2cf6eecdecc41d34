"""Opening a teacher: a folder, a GGUF file, or the name of one."""

import dataclasses
import re
from pathlib import Path

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from fftnet_jax.errors import ConfigError
from fftnet_jax.interop.gguf_checkpoint import GGUFCheckpoint
from fftnet_jax.interop.huggingface_folder import FolderCheckpoint, download
from fftnet_jax.interop.smollm2 import smollm2_path
from fftnet_jax.models.llama import Teacher
from fftnet_jax.models.llama_config import read_config
from fftnet_jax.tokenizers import Tokenizer, get_tokenizer

DTYPES = ("float32", "bfloat16")
NAMES = {  # ours → Hugging Face's
    "token": "model.embed_tokens",
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "out": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
    "norm": "model.norm",
    "head": "lm_head",
}


def load_teacher(source: str | Path, dtype: str = "float32") -> tuple[Teacher, dict, Tokenizer | None]:
    """A teacher, its parameters and its tokenizer (None where `source` has none).

    `model.apply({"params": params}, ids)` gives logits (B, N, V), float32. Weights are read one at a time, so that no
    second copy of them all is ever in memory.

    Args:
      source: a folder in Hugging Face's format, a GGUF file, "smollm2" (SmolLM2-135M-Instruct, fetched once), or the
        name of a model on the Hugging Face hub, such as "Qwen/Qwen2-0.5B-Instruct".
      dtype: "float32" or "bfloat16", of parameters and products.

    Raises:
      ConfigError: nothing there, an unknown architecture, a missing or misshapen tensor, a damaged file.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    checkpoint = open_checkpoint(source)
    config = dataclasses.replace(read_config(checkpoint.config, str(checkpoint.path)), dtype=dtype)
    model = Teacher(config)
    tokenizer = get_tokenizer(checkpoint.tokenizer) if checkpoint.tokenizer else None
    return model, _read_params(model, checkpoint), tokenizer


def open_checkpoint(source: str | Path) -> FolderCheckpoint | GGUFCheckpoint:
    """The checkpoint that `source` names; see `load_teacher`."""
    path = smollm2_path() if source == "smollm2" else Path(source).expanduser()
    if path.is_file():
        return GGUFCheckpoint(path)
    if not path.is_dir():
        if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", str(source)):
            raise ConfigError(
                f"teacher must be a folder, a GGUF file, 'smollm2' or OWNER/MODEL on the hub, got {str(source)!r}"
            )
        path = download(str(source))
    return FolderCheckpoint(path)


def _read_params(model: Teacher, checkpoint: FolderCheckpoint | GGUFCheckpoint) -> dict:
    """The parameters of `model`, read when all names and shapes are checked."""
    _check_sizes(model.config, checkpoint)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1), jnp.int32))["params"]
    leaves = {path: (_name(path), path[-1] == "kernel", leaf) for path, leaf in flatten_dict(shapes).items()}
    missing = sorted({name for name, _, _ in leaves.values()} - checkpoint.names())
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ConfigError(f"{checkpoint.path}: tensor {missing[0]}{more} is missing")
    for name, transposed, leaf in leaves.values():
        wanted = leaf.shape[::-1] if transposed else leaf.shape
        if (found := checkpoint.shape(name)) != wanted:
            raise ConfigError(f"{checkpoint.path}: {name} must have shape {wanted}, as config says, got {found}")
    params = {}
    # The largest first, whose copies on the way then meet an empty memory.
    for path, (name, transposed, leaf) in sorted(leaves.items(), key=lambda item: -item[1][2].size):
        array = checkpoint.read(name)
        # Torch keeps (out, in), Flax (in, out). A copy, for the array may be a view of a file that somebody changes.
        params[path] = jnp.array(array.T if transposed else array, leaf.dtype)
    return unflatten_dict(params)


def _check_sizes(config, checkpoint: FolderCheckpoint | GGUFCheckpoint) -> None:
    """Before anything is made of them: damaged sizes would build layers for hours, or tables of any length."""
    layers, rows = config.num_layers, config.num_heads * config.head_dim
    last = f"model.layers.{layers - 1}.{NAMES['attention_norm']}.weight"
    first = f"model.layers.0.{NAMES['q']}.weight"
    for name in (last, first):
        if name not in checkpoint.names():
            raise ConfigError(f"{checkpoint.path}: tensor {name} is missing, of the {layers} layers that config says")
    if (found := checkpoint.shape(first)) != (rows, config.width):
        raise ConfigError(
            f"{checkpoint.path}: {first} must have shape {(rows, config.width)}, as config says, got {found}"
        )


def _name(path: tuple[str, ...]) -> str:
    """`("layers_3", "q", "kernel")` → `model.layers.3.self_attn.q_proj.weight`."""
    *layer, part, leaf = path
    prefix = f"model.layers.{layer[0].removeprefix('layers_')}." if layer else ""
    return f"{prefix}{NAMES[part]}.{'bias' if leaf == 'bias' else 'weight'}"
