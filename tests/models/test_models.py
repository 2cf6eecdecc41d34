import dataclasses
import math
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fftnet_jax.config import CAUSAL_MIXERS, MIXERS, ModelConfig, load_config
from fftnet_jax.errors import ConfigError
from fftnet_jax.models import Decoder, Encoder, build_model
from fftnet_jax.models.embeddings import sinusoids

ROOT = Path(__file__).parents[2]
SIZES = {"width": 8, "num_heads": 2, "num_layers": 1, "ffn_width": 11, "vocab_size": 13, "max_length": 20, "window": 4}
BIDIRECTIONAL = [name for name in MIXERS if name not in CAUSAL_MIXERS]
IDS = np.arange(24).reshape(2, 12) % 13


def random_params(model):
    shapes = jax.eval_shape(model.init, jax.random.key(0), IDS)["params"]
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: (0.4 * rng.normal(size=leaf.shape)).astype(np.float32), shapes)


def config_of(name, **changes):
    return ModelConfig(**SIZES | {"family": "decoder" if MIXERS[name] else "encoder", "mixer": name} | changes)


@pytest.mark.parametrize("name", BIDIRECTIONAL)
def test_a_decoder_refuses_bidirectional_mixers(name):
    for mixer in (name, ("causal_fftnet", name)):
        sizes = SIZES | {"num_layers": 1 if mixer == name else 2}
        with pytest.raises(ConfigError) as by_config:
            ModelConfig(family="decoder", mixer=mixer, **sizes)
        encoder = ModelConfig(family="encoder", mixer=mixer, **sizes)
        with pytest.raises(ConfigError) as by_class:
            Decoder(encoder)
        for message in (str(by_config.value), str(by_class.value)):
            assert "\n" not in message
            assert "causal_fftnet" in message
            assert repr(name) in message


def test_build_model_goes_by_family():
    assert type(build_model(config_of("causal_fftnet"))) is Decoder
    assert type(build_model(config_of("fftnet"))) is Encoder


@pytest.mark.parametrize("name", MIXERS)
def test_bfloat16(name):
    exact, rough = build_model(config_of(name)), build_model(config_of(name, dtype="bfloat16"))
    params = random_params(exact)
    with jax.numpy_dtype_promotion("standard"):  # flax's LayerNorm mixes bfloat16 with its float32 statistics
        fresh = jax.eval_shape(rough.init, jax.random.key(0), IDS)["params"]
        logits = jax.jit(rough.apply)({"params": params}, IDS)
    assert {leaf.dtype for leaf in jax.tree.leaves(fresh)} == {jnp.dtype("float32")}
    assert logits.dtype == jnp.float32
    wanted = jax.jit(exact.apply)({"params": params}, IDS)
    error = np.linalg.norm(logits - wanted) / np.linalg.norm(wanted)
    assert 1e-5 < error < 0.05  # rounded, and not by much


def test_logits_are_float32_with_a_head_of_its_own():
    model = build_model(config_of("fourier", dtype="bfloat16", tie_head=False))
    with jax.numpy_dtype_promotion("standard"):
        assert jax.eval_shape(model.init_with_output, jax.random.key(0), IDS)[0].dtype == jnp.float32


def test_remat_changes_neither_values_nor_gradients():
    results, programs = [], []
    for remat in (False, True):
        model = build_model(config_of("causal_fftnet", remat=remat, dropout=0.2))

        def loss(params, model=model):
            logits = model.apply({"params": params}, IDS, deterministic=False, rngs={"dropout": jax.random.key(1)})
            return jnp.square(logits).mean()

        params = random_params(model)
        results.append(jax.jit(jax.value_and_grad(loss))(params))
        programs.append(str(jax.make_jaxpr(jax.grad(loss))(params)))
    without, with_remat = (len(re.findall("remat|checkpoint", program)) for program in programs)
    assert without < with_remat
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), *results)


def test_dropout_needs_a_key_only_in_training():
    model = build_model(config_of("attention", dropout=0.5))
    params = {"params": random_params(model)}
    still = jax.jit(model.apply)(params, IDS)
    train = jax.jit(lambda key: model.apply(params, IDS, deterministic=False, rngs={"dropout": key}))
    one, same, other = (train(jax.random.key(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0.01
    assert np.abs(one - still).max() > 0.01


ACTIVATIONS = {
    "relu2": lambda x: np.maximum(x, 0) ** 2,
    "gelu": lambda x: x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2,
    "gelu_tanh": lambda x: x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_pre_norm_block(activation):
    model = build_model(config_of("fourier", activation=activation))
    params = random_params(model)

    def norm(x, p):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * p["scale"] + p["bias"]

    block, table = params["blocks_0"], params["embeddings"]["token"]["embedding"]
    x = table[IDS].astype(np.float64)
    x = x + np.fft.fft2(norm(x, block["mixer_norms_0"]), axes=(1, 2)).real
    hidden = norm(x, block["ffn_norms_0"]) @ block["ffn"]["up"]["kernel"] + block["ffn"]["up"]["bias"]
    x = x + ACTIVATIONS[activation](hidden) @ block["ffn"]["down"]["kernel"] + block["ffn"]["down"]["bias"]
    wanted = norm(x, params["final_norm"]) @ table.T
    np.testing.assert_allclose(jax.jit(model.apply)({"params": params}, IDS), wanted, atol=5e-5)


@pytest.mark.parametrize("tie, bias", [(True, False), (True, True), (False, False), (False, True)])
def test_heads(tie, bias):
    model = build_model(config_of("fourier", tie_head=tie, head_bias=bias))
    params = random_params(model)
    x = np.random.default_rng(1).normal(size=(2, 3, 8)).astype(np.float32)
    norm = params["final_norm"]
    u = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * norm["scale"] + norm["bias"]
    wanted = u @ (params["embeddings"]["token"]["embedding"].T if tie else params["head"]["kernel"])
    if bias:
        wanted = wanted + (params["head_bias"] if tie else params["head"]["bias"])
    for inputs, out in ((x, wanted), (x[:, 0], wanted[:, 0])):  # prefill's rank and step's
        found = model.apply({"params": params}, inputs, method="logits")
        np.testing.assert_allclose(found, out, atol=1e-5)


def test_sinusoids():
    wanted = [
        [(np.sin if channel % 2 == 0 else np.cos)(place / 10000 ** (2 * (channel // 2) / 6)) for channel in range(6)]
        for place in range(30)
    ]
    np.testing.assert_allclose(sinusoids(jnp.arange(30), 6), wanted, atol=1e-5)


def test_too_long_for_learned_positions():
    model = build_model(config_of("fourier", positions="learned"))
    with pytest.raises(ValueError, match=r"model\.max_length \(20\) tokens, got 21"):
        model.init(jax.random.key(0), np.zeros((1, 21), np.int32))


def test_model_without_a_vocabulary():
    with pytest.raises(ValueError, match=r"model\.vocab_size must be at least 1"):
        Encoder(ModelConfig(family="encoder", mixer="fourier")).init(jax.random.key(0), IDS)


def test_frequency_responses_skip_mixers_that_are_no_filters():
    model = build_model(config_of("causal_fftnet", mixer=("causal_fftnet", "attention"), num_layers=2))
    responses = model.apply({"params": random_params(model)}, 9, method="frequency_responses")
    assert [(title, magnitude.shape) for title, magnitude in responses] == [("layer 0: causal_fftnet", (9, 8))]


def test_flagship_is_small():
    config = load_config(str(ROOT / "experiments" / "tinyshakespeare_char.py"))
    model = build_model(dataclasses.replace(config.model, vocab_size=65, max_length=config.data.length))
    shapes = jax.eval_shape(model.init, jax.random.key(0), IDS)["params"]
    assert "causal_fftnet" in model.config.mixers
    assert 400_000 < sum(leaf.size for leaf in jax.tree.leaves(shapes)) <= 850_000
