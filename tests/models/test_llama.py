"""Teachers against PyTorch's logits, whole and through the cache, and what can be wrong with their files."""

import json
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fftnet_jax.distillation import load_teacher
from fftnet_jax.errors import ConfigError
from fftnet_jax.generation import Sampling, generate

GOLDEN = Path(__file__).parents[1] / "golden" / "teacher"
NAMES = sorted(folder.name for folder in GOLDEN.iterdir() if folder.is_dir())


@pytest.fixture(params=NAMES, scope="module")
def golden(request):
    """A teacher, what PyTorch made of some ids, and the model's methods, compiled once a shape."""
    arrays = np.load(GOLDEN / request.param / "golden.npz")
    model, params, tokenizer = load_teacher(GOLDEN / request.param)
    assert tokenizer is None
    call = {
        method: jax.jit(partial(model.apply, {"params": params}, method=method))
        for method in ("__call__", "prefill", "step")
    }
    return SimpleNamespace(model=model, params=params, ids=arrays["ids"], logits=arrays["logits"], call=call)


def assert_near(logits, wanted, tolerance=1e-5):
    assert logits.shape == wanted.shape
    assert np.abs(logits - wanted).max() <= tolerance * np.abs(wanted).max()


def test_logits_are_pytorchs(golden):
    logits = golden.call["__call__"](golden.ids)
    assert logits.dtype == jnp.float32
    assert_near(logits, golden.logits)


@pytest.mark.parametrize("cuts", [(0, 1, 20), (0, 20), (0, 40)])
def test_cache_gives_the_same(golden, cuts):
    ids, cache, parts = golden.ids, golden.model.init_cache(*golden.ids.shape), []
    for start, stop in zip(cuts, cuts[1:], strict=False):
        part, cache = golden.call["prefill"](ids[:, start:stop], cache)
        parts.append(part)
    for place in range(cuts[-1], ids.shape[1]):
        logits, cache = golden.call["step"](ids[:, place], cache)
        parts.append(logits[:, None])
    assert_near(np.concatenate(parts, axis=1), golden.logits)


def test_weights_of_8_bits_are_for_our_own_models(golden):
    with pytest.raises(ConfigError, match=r"weights must be None for a model of the \w+ family, got 'int8'"):
        golden.model.apply({"params": golden.params}, "int8", method="prepare")


def test_left_pads_change_nothing(golden):
    ids, pads = golden.ids, np.array([0, 3], np.int32)
    padded = np.stack([ids[0, :20], np.concatenate([[0, 0, 0], ids[1, :17]])])
    logits, _ = golden.call["prefill"](padded, golden.model.init_cache(2, 40), pads)
    assert_near(np.asarray(logits[1, 3:]), golden.logits[1, :17])


@pytest.mark.as_shipped
def test_causality(golden):
    """By gradient, through the rows of the token table that only later tokens read; a tied head is held fixed."""
    model, params, ids = golden.model, golden.params, golden.ids
    head, _, axis = model.head_weights(params)
    ids = np.concatenate([ids[:, :11] % 7, 7 + ids[:, 11:] % 50], axis=1)  # early and late tokens have no id in common

    def logits(table):
        ours = {**params, "token": {"embedding": table}}
        x_BND = model.apply({"params": ours}, ids, method="features")
        return jnp.tensordot(x_BND, head, ((2,), (1 - axis,)))[0, 10].sum()

    grads = jax.jit(jax.grad(logits))(params["token"]["embedding"])
    assert np.abs(grads[7:]).max() == 0
    assert np.abs(grads[ids[0, 10]]).max() > 0


def test_generates(golden):
    model, params, ids = golden.model, golden.params, golden.ids
    new = [int(i[0]) for i in generate(model, params, [ids[0, :8].tolist()], 3, Sampling(0))]
    assert new[0] == golden.logits[0, 7].argmax()
    longer = np.concatenate([ids[:1, :8], [new[:2]]], axis=1)
    padded = np.pad(np.repeat(longer, 2, axis=0), ((0, 0), (0, ids.shape[1] - 10)))  # of a shape that is compiled
    assert new[2] == np.asarray(golden.call["__call__"](padded))[0, 9].argmax()


@jax.numpy_dtype_promotion("standard")  # Flax's own norms need it
def test_bfloat16():
    model, params, _ = load_teacher(GOLDEN / "llama_bf16", "bfloat16")
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.bfloat16)}
    arrays = np.load(GOLDEN / "llama_bf16" / "golden.npz")
    assert_near(jax.jit(model.apply)({"params": params}, arrays["ids"]), arrays["logits"], 0.05)


def test_theta_and_dtype_from_either_form(tmp_path):
    """`rope_theta` on top, as transformers wrote it before version 5, is the same."""
    shutil.copytree(GOLDEN / "qwen2", tmp_path / "old")
    config = json.loads((tmp_path / "old" / "config.json").read_text())
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    (tmp_path / "old" / "config.json").write_text(json.dumps(config))
    assert load_teacher(tmp_path / "old")[0].config == load_teacher(GOLDEN / "qwen2")[0].config


@pytest.mark.parametrize(
    "change, words",
    [
        ({"model_type": "gpt2"}, ["model_type", "llama, qwen2", "'gpt2'"]),
        ({"model_type": None}, ["model_type", "None"]),
        ({"hidden_size": None}, ["hidden_size is missing"]),
        ({"hidden_size": "40"}, ["hidden_size", "whole number", "'40'"]),
        ({"intermediate_size": 44}, ["must have shape", "44"]),
        ({"num_hidden_layers": 3}, ["model.layers.2", "is missing"]),
        ({"num_hidden_layers": -1}, ["num_hidden_layers", "-1"]),
        ({"num_key_value_heads": 3}, ["num_attention_heads", "multiple", "(3)"]),
        ({"hidden_act": "gelu"}, ["hidden_act", "'gelu'"]),
        ({"tie_word_embeddings": False}, ["lm_head.weight", "missing"]),
        ({"tie_word_embeddings": "no"}, ["tie_word_embeddings", "'no'"]),
        ({"use_sliding_window": True}, ["use_sliding_window"]),
        ({"rope_parameters": {"rope_type": "yarn"}}, ["rope_type", "'yarn'"]),
        ({"rope_parameters": [1]}, ["rope_parameters", "[1]"]),
        ({"rope_parameters": {"rope_theta": 0}}, ["rope_theta", "above 0"]),
        ({"rms_norm_eps": float("nan")}, ["rms_norm_eps"]),
        ({"eos_token_id": "x"}, ["eos_token_id", "'x'"]),
        ({"head_dim": 9}, ["head_dim", "even", "9"]),
    ],
)
def test_wrong_config(change, words, tmp_path):
    folder = tmp_path / "teacher"
    shutil.copytree(GOLDEN / "qwen2", folder)
    config = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps(config))
    refused(folder, words)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_truncated_weights(share, tmp_path):
    folder = tmp_path / "teacher"
    shutil.copytree(GOLDEN / "qwen2", folder)
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: int(share * len(data))])
    refused(folder, ["model.safetensors", "whole safetensors file"])


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("config.json", "{", ["config.json", "JSON object"]),
        ("config.json", "[1]", ["config.json", "JSON object"]),
        ("config.json", None, ["config.json", "readable"]),
        ("model.safetensors", None, ["model.safetensors", "neither"]),
        ("model.safetensors.index.json", '{"weight_map": 3}', ["index.json", "weight_map"]),
        ("model.safetensors.index.json", '{"weight_map": {"a": "../x"}}', ["index.json", "not in the folder"]),
        ("model.safetensors.index.json", '{"weight_map": {"a": "none"}}', ["'none'", "not in the folder"]),
    ],
)
def test_wrong_files(name, content, words, tmp_path):
    folder = tmp_path / "teacher"
    shutil.copytree(GOLDEN / "qwen2", folder)
    (folder / name).unlink(missing_ok=True)
    if content is not None:
        (folder / name).write_text(content)
    refused(folder, words)


@pytest.mark.parametrize("source", ["no such folder", "../nowhere", "a/b/c"])
def test_nothing_there(source):
    refused(source, ["teacher must be", source])


def refused(source, words):
    with pytest.raises(ConfigError) as caught:
        load_teacher(source)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message
