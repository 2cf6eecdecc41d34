"""State dicts of the two PyTorch originals → the modules of `fftnet_jax.models` and their parameters.

The tables below hold everything that is known about a system's tensors: name, shape, and the path
of the parameter here, where `#` stands for the layer's index. A kernel here is the transpose of a
weight there. Only names and arrays are read; PyTorch is not needed.
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from fftnet_jax.config import ModelConfig
from fftnet_jax.errors import ConfigError
from fftnet_jax.models import Encoder, build_model


class Tensor(NamedTuple):
    """A tensor of the original: its name, a letter of `SIZES` per dimension, and its parameter's path here."""

    name: str
    shape: str
    path: str | None  # None: read nowhere


SIZES = {"V": "vocabulary", "D": "width", "H": "hidden width", "L": "longest sequence", "P": "width × window", "1": "1"}

FFTNET = (
    Tensor("embedding.weight", "VD", "embeddings/token/embedding"),
    Tensor("layers.#.input_norm.weight", "D", "blocks_#/mixer_norms_0/scale"),
    Tensor("layers.#.input_norm.bias", "D", "blocks_#/mixer_norms_0/bias"),
    Tensor("layers.#.output_norm.weight", "D", "blocks_#/mixer_norms_1/scale"),
    Tensor("layers.#.output_norm.bias", "D", "blocks_#/mixer_norms_1/bias"),
    Tensor("layers.#.adaptive_filter.W_base", "11D", "blocks_#/mixer/spectral_filter/base"),
    Tensor("layers.#.adaptive_filter.mlp.0.weight", "HD", "blocks_#/mixer/spectral_filter/mlp_0/kernel"),
    Tensor("layers.#.adaptive_filter.mlp.0.bias", "H", "blocks_#/mixer/spectral_filter/mlp_0/bias"),
    Tensor("layers.#.adaptive_filter.mlp.2.weight", "DH", "blocks_#/mixer/spectral_filter/mlp_1/kernel"),
    Tensor("layers.#.adaptive_filter.mlp.2.bias", "D", "blocks_#/mixer/spectral_filter/mlp_1/bias"),
    Tensor("layers.#.modrelu.bias", "11D", "blocks_#/mixer/modrelu/bias"),
    Tensor("output_norm.weight", "D", "final_norm/scale"),
    Tensor("output_norm.bias", "D", "final_norm/bias"),
    Tensor("output_proj.weight", "VD", "head/kernel"),
    Tensor("output_proj.bias", "V", "head/bias"),
    Tensor("pos_encoding", "1LD", None),
)

CAUSAL_STFT_FNET = (
    Tensor("embeddings.word_embeddings.weight", "VD", "embeddings/token/embedding"),
    Tensor("embeddings.pos_embeddings.weight", "LD", "embeddings/position/embedding"),
    Tensor("embeddings.norm.weight", "D", "embeddings/norm/scale"),
    Tensor("embeddings.norm.bias", "D", "embeddings/norm/bias"),
    Tensor("encoder.#.causal_stft.projection.weight", "DP", "blocks_#/mixer/projection/kernel"),
    Tensor("encoder.#.causal_stft.projection.bias", "D", "blocks_#/mixer/projection/bias"),
    Tensor("encoder.#.ffn.dense1.weight", "HD", "blocks_#/ffn/up/kernel"),
    Tensor("encoder.#.ffn.dense1.bias", "H", "blocks_#/ffn/up/bias"),
    Tensor("encoder.#.ffn.dense2.weight", "DH", "blocks_#/ffn/down/kernel"),
    Tensor("encoder.#.ffn.dense2.bias", "D", "blocks_#/ffn/down/bias"),
    Tensor("encoder.#.norm1.weight", "D", "blocks_#/mixer_norms_1/scale"),
    Tensor("encoder.#.norm1.bias", "D", "blocks_#/mixer_norms_1/bias"),
    Tensor("encoder.#.norm2.weight", "D", "blocks_#/ffn_norms_1/scale"),
    Tensor("encoder.#.norm2.bias", "D", "blocks_#/ffn_norms_1/bias"),
    Tensor("lm_head.weight", "VD", "head/kernel"),
)


def from_torch(state_dict: Mapping, *, layer_norm: bool | None = None) -> tuple[Encoder, dict]:
    """The model and parameters that a PyTorch state dict of either original describes.

    Args:
      state_dict: name → array (anything `np.asarray` takes), of FFTNet or of the causal STFT FNet.
        Sizes are read from the shapes. A causal STFT FNet whose `lm_head.weight` is absent, or equal
        to the word embedding, gets a tied head: one parameter for both.
      layer_norm: FFTNet only: whether it normalises. None: as the presence of `output_norm` says.
        With False the layers' norms may be in the state dict, and are left out.

    Returns:
      (model, params), where `model.apply({"params": params}, ids_BN)` gives the logits (B, N, V);
      an `Encoder` for FFTNet, a `Decoder` for the causal STFT FNet.

    Raises:
      ConfigError: names of neither system, or a tensor that is missing, unexpected or misshapen.
      TypeError: an unknown option.
    """
    if any(".adaptive_filter." in name for name in state_dict):
        return _fftnet(state_dict, layer_norm)
    if layer_norm is False:
        raise TypeError(
            "layer_norm is an option of FFTNet state dicts only, those with layers.0.adaptive_filter.W_base"
        )
    if any(".causal_stft." in name for name in state_dict):
        return _causal_stft_fnet(state_dict)
    raise ConfigError(
        "state_dict has the names of neither FFTNet (layers.0.adaptive_filter.W_base) nor the causal STFT FNet "
        f"(encoder.0.causal_stft.projection.weight); found {_few(state_dict)}"
    )


def _fftnet(state_dict, layer_norm):
    if layer_norm is None:
        layer_norm = any(name.startswith("output_norm.") for name in state_dict)
    table = [t if layer_norm or "norm." not in t.name else t._replace(path=None) for t in FFTNET]
    tensors, sizes = _read(state_dict, table)
    config = ModelConfig(
        family="encoder",
        mixer="fftnet",
        vocab_size=sizes["V"],
        width=sizes["D"],
        num_layers=_depth(state_dict),
        ffn_width=0,
        max_length=sizes.get("L", 0),
        block_norm="both" if layer_norm else "none",
        final_norm=layer_norm,
        positions="sinusoidal",
        embedding_scale=True,
        tie_head=False,
        head_bias=True,
        filter_width=sizes["H"],
    )
    return _assemble(config, tensors)


def _causal_stft_fnet(state_dict):
    word, head = (state_dict.get(name) for name in ("embeddings.word_embeddings.weight", "lm_head.weight"))
    tied = head is None or (word is not None and np.array_equal(np.asarray(word), np.asarray(head)))
    table = [t._replace(path=None) if tied and t.name == "lm_head.weight" else t for t in CAUSAL_STFT_FNET]
    tensors, sizes = _read(state_dict, table)
    if sizes["P"] % sizes["D"]:
        raise ConfigError(
            f"encoder.0.causal_stft.projection.weight must have width × window columns, a multiple of {sizes['D']}, "
            f"got shape ({sizes['D']}, {sizes['P']})"
        )
    config = ModelConfig(
        family="decoder",
        mixer="causal_stft",
        vocab_size=sizes["V"],
        width=sizes["D"],
        num_layers=_depth(state_dict),
        ffn_width=sizes["H"],
        max_length=sizes["L"],
        block_norm="post",
        norm_epsilon=1e-12,
        final_norm=False,
        embedding_norm=True,
        positions="learned",
        tie_head=tied,
        window=sizes["P"] // sizes["D"],
    )
    return _assemble(config, tensors)


def _depth(names):
    """Number of layers; their indices must be 0, 1, 2…"""
    matches = (re.match(r"(?:layers|encoder)\.(\d+)\.", name) for name in names)
    found = sorted({int(match[1]) for match in matches if match})
    for index, layer in enumerate(found):
        if layer != index:
            raise ConfigError(f"state_dict lacks layer {index}; found layers {', '.join(map(str, found))}")
    return len(found)


def _read(state_dict, table):
    """({Tensor: array}, {letter: size}) for the table's tensors in every layer; names and shapes checked."""
    wanted = [t for row in table for t in _of_layers(row, _depth(state_dict))]
    missing = [t.name for t in wanted if t.path and t.name not in state_dict]
    unexpected = sorted(state_dict.keys() - {t.name for t in wanted})
    if missing or unexpected:
        parts = [f"lacks {_few(missing)}"] * bool(missing) + [f"has unexpected {_few(unexpected)}"] * bool(unexpected)
        raise ConfigError("state_dict " + " and ".join(parts))
    arrays = {t: _array(t.name, state_dict[t.name]) for t in wanted if t.name in state_dict}
    sizes = _sizes(arrays)
    for t, array in arrays.items():
        right = tuple(sizes.get(letter, SIZES[letter]) for letter in t.shape)
        if array.shape != right:
            raise ConfigError(f"{t.name} must have shape ({', '.join(map(str, right))}), got {array.shape}")
    return arrays, sizes


def _of_layers(row, depth):
    if "#" not in row.name:
        return [row]
    paths = [row.path and row.path.replace("#", str(i)) for i in range(depth)]
    return [Tensor(row.name.replace("#", str(i)), row.shape, path) for i, path in enumerate(paths)]


def _sizes(arrays):
    """The size that most tensors give each letter, so that a misshapen one is told from the rest."""
    votes = {}
    for tensor, array in arrays.items():
        if len(tensor.shape) == array.ndim:
            for letter, size in zip(tensor.shape, array.shape, strict=True):
                votes.setdefault(letter, Counter())[size] += 1
    sizes = {letter: count.most_common(1)[0][0] for letter, count in votes.items()}
    if "P" in sizes:  # few tensors vote, but a multiple of the width is more likely right
        sizes["P"] = max(votes["P"], key=lambda size: (size % sizes["D"] == 0, votes["P"][size]))
    return sizes | {"1": 1}


def _array(name, value):
    try:
        return np.asarray(value).astype(np.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"{name} must be an array of numbers, got {type(value).__name__}") from error


def _assemble(config, tensors):
    model = build_model(config)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1), jnp.int32))["params"]
    shapes = traverse_util.flatten_dict(shapes, sep="/")
    params = {}
    for tensor, array in tensors.items():
        if tensor.path:
            params[tensor.path] = array.T if tensor.path.endswith("/kernel") else array
    assert params.keys() == shapes.keys(), f"the tables do not fit the model: {params.keys() ^ shapes.keys()}"
    params = {path: jnp.asarray(params[path].reshape(shapes[path].shape)) for path in shapes}
    return model, traverse_util.unflatten_dict(params, sep="/")


def _few(names, most=4):
    names = list(map(str, names))
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more or "no names"
