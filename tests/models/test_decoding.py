"""Prefill and steps through a cache give what one call on the whole sequence gives."""

import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fftnet_jax import ops
from fftnet_jax.config import CAUSAL_MIXERS, ModelConfig
from fftnet_jax.errors import ConfigError
from fftnet_jax.mixers import build_mixer
from fftnet_jax.models import build_model

pytestmark = pytest.mark.as_shipped
BATCH, LENGTH, WIDTH, VOCABULARY = 3, 37, 8, 13
SIZES = {"width": WIDTH, "num_heads": 2, "window": 5, "filter_modes": 6, "vocab_size": VOCABULARY, "short_filter": 3}
SPLITS = [(), (6,), (6, 6, 6), (LENGTH,)]  # tokens per prefill; the rest come by steps

DECODERS = {name: {"mixer": name} for name in CAUSAL_MIXERS} | {
    "hybrid, learned": {"mixer": ("causal_fftnet", "attention"), "num_layers": 2, "positions": "learned"},
    "stft, sinusoidal": {"mixer": "causal_stft", "positions": "sinusoidal", "block_norm": "post", "window": 50},
    "one tap": {"mixer": "causal_fftnet", "short_filter": 1, "tie_head": False, "head_bias": True},
}


def random_params(module, inputs):
    shapes = jax.eval_shape(module.init, jax.random.key(0), inputs)["params"]
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: (0.4 * rng.normal(size=leaf.shape)).astype(np.float32), shapes)


def prepared(module, params, weights=None):
    """Parameters, and what steps need that depends on them only."""
    prepare = partial(module.apply, weights=weights, method="prepare", mutable=["constants"])
    return {"params": params, **jax.jit(prepare)({"params": params})[1]}


def check(module, variables, cache, inputs, splits=SPLITS):
    """`inputs` is (B, N) of tokens or (B, N, D); `variables` are the parameters, with or without constants."""
    check_calls(*calls(module, variables), cache, inputs, splits)


def calls(module, variables):
    """The full pass, prefill and step, compiled once a shape."""
    return (
        jax.jit(lambda x: module.apply({"params": variables["params"]}, x)),
        jax.jit(partial(module.apply, variables, method="prefill"), static_argnames="last"),
        jax.jit(partial(module.apply, variables, method="step")),
    )


def check_calls(full, prefill, step, cache, inputs, splits):
    full, shapes, compiled = full(inputs), jax.tree.map(jnp.shape, cache), step._cache_size()
    for split in splits:
        now, place, outputs = cache, 0, []
        for count in split:
            y, now = prefill(inputs[:, place : place + count], now)
            outputs.append(y)
            place += count
        while place < LENGTH:
            y, now = step(inputs[:, place], now)
            outputs.append(y[:, None])
            place += 1
        assert jax.tree.map(jnp.shape, now) == shapes
        found = np.concatenate(outputs, axis=1)
        assert found.shape == full.shape
        error_N = np.abs(found - full).max(axis=(0, 2)) / np.abs(full).max()
        assert error_N.max() <= 2e-5, (split, error_N)
    assert step._cache_size() <= compiled + 1  # steps never compile again


def decoder(name, dtype="float32"):
    sizes = SIZES | {"num_layers": 1, "ffn_width": 11, "max_length": LENGTH + 4, "dtype": dtype}
    config = ModelConfig(**sizes | DECODERS[name])
    model = build_model(config)
    ids_BN = jax.random.randint(jax.random.key(0), (BATCH, LENGTH), 0, VOCABULARY)
    return model, random_params(model, ids_BN), ids_BN


@functools.cache
def compiled(name):
    """A decoder's empty cache, tokens, and its full pass, prefill and step."""
    model, params, ids_BN = decoder(name)
    return model.init_cache(BATCH, LENGTH + 4), ids_BN, *calls(model, prepared(model, params))


@pytest.mark.parametrize("name", CAUSAL_MIXERS)
def test_mixer(name):
    mixer = build_mixer(name, ModelConfig(mixer=name, **SIZES))
    x_BND = jax.random.normal(jax.random.key(0), (BATCH, LENGTH, WIDTH))
    variables = {"params": random_params(mixer, x_BND)}
    check(mixer, variables, mixer.init_cache(BATCH, LENGTH), x_BND, [(), (6, 6)])


@pytest.mark.parametrize("name", DECODERS)
def test_decoder(name):
    empty, ids_BN, *found = compiled(name)
    check_calls(*found, empty, ids_BN, SPLITS)


def test_steps_take_the_constants_that_they_are_handed():
    model, params, _ = decoder("causal_stft")
    constants = prepared(model, params)["constants"]
    assert constants["blocks_0"]["mixer"]["kernel"].shape == (WIDTH, SIZES["window"], WIDTH)
    assert np.concatenate(constants["head"], axis=1).shape == (WIDTH, VOCABULARY)
    cache = model.init_cache(1, 8)
    step = jax.jit(lambda variables: model.apply(variables, jnp.ones(1, int), cache, method="step")[0])
    wanted = step({"params": params})
    for changed in ("blocks_0", "head"):
        zero = constants | {changed: jax.tree.map(jnp.zeros_like, constants[changed])}
        assert np.abs(step({"params": params, "constants": zero}) - wanted).max() > 0.01


def test_float32_has_no_copy_of_a_weight():
    model, params, _ = decoder("attention")
    assert prepared(model, params)["constants"].keys() == {"head"}


@jax.numpy_dtype_promotion("standard")  # Flax's own norms need it in bfloat16
@pytest.mark.parametrize("dtype, weights", [("bfloat16", None), ("bfloat16", "int8"), ("float32", "int8")])
@pytest.mark.parametrize("name", ["hybrid, learned", "stft, sinusoidal", "one tap"])
def test_steps_read_no_weight_but_the_prepared(name, dtype, weights):
    """With NaN in place of all others, the same numbers come out."""
    model, params, _ = decoder(name, dtype)
    variables, cache = prepared(model, params, weights), model.init_cache(BATCH, 8)
    step = jax.jit(lambda variables: model.apply(variables, jnp.arange(BATCH), cache, method="step")[0])

    def spoilt(path, leaf):
        *_, module, name = ["", *(key.key for key in path)]
        dense = module in ("up", "down")
        vector = name in ("scale", "embedding", "skip", "head_bias") or (name == "bias" and not dense)
        cast = dtype == "bfloat16" or name != "bias"
        return np.full_like(leaf, np.nan) if cast and not vector else leaf

    wanted = step(variables)
    assert np.isfinite(wanted).all()
    changed = variables | {"params": jax.tree_util.tree_map_with_path(spoilt, params)}
    np.testing.assert_array_equal(step(changed), wanted)


@jax.numpy_dtype_promotion("standard")
@pytest.mark.parametrize("name", ["hybrid, learned", "causal_stft", "one tap"])
def test_steps_in_bfloat16(name):
    model, params, ids_BN = decoder(name, "bfloat16")
    wanted = np.asarray(jax.jit(model.apply)({"params": params}, ids_BN))
    for variables in ({"params": params}, prepared(model, params)):
        step, cache = jax.jit(partial(model.apply, variables, method="step")), model.init_cache(BATCH, LENGTH)
        for place in range(12):
            found, cache = step(ids_BN[:, place], cache)
            assert np.abs(found - wanted[:, place]).max() <= 0.03 * np.abs(wanted).max()


@pytest.mark.parametrize("name", ["hybrid, learned", "one tap"])
def test_int8_is_the_model_of_the_dequantised_weights(name):
    """In a full pass, prefill and steps; and is not far from the model itself."""
    model, params, ids_BN = decoder(name)
    quantised = jax.tree_util.tree_map_with_path(
        lambda path, leaf: ops.quantised(leaf).dequantised() if path[-1].key == "kernel" else leaf, params
    )
    weight, _, axis = model.head_weights(params)
    head_DV = ops.quantised(weight if axis == 1 else weight.T).dequantised()
    near = {"params": quantised, "constants": {"head": [head_DV]}}
    int8 = prepared(model, params, "int8")
    full = jax.jit(model.apply)
    wanted, exact = full(near, ids_BN), full({"params": params}, ids_BN)
    _, prefill, step = calls(model, int8)
    check_calls(lambda _: wanted, prefill, step, model.init_cache(BATCH, LENGTH), ids_BN, [(6,)])
    np.testing.assert_allclose(full(int8, ids_BN), wanted, atol=2e-5 * np.abs(wanted).max())
    assert 1e-4 < np.abs(wanted - exact).max() / np.abs(exact).max() < 0.05


def test_int8_of_an_stft():
    """Its kernel has 8 bits after the transform."""
    model, params, ids_BN = decoder("causal_stft")
    _, prefill, step = calls(model, prepared(model, params, "int8"))
    wanted, _ = prefill(ids_BN[:, :9], model.init_cache(BATCH, LENGTH))
    found, _ = step(ids_BN[:, 8], prefill(ids_BN[:, :8], model.init_cache(BATCH, LENGTH))[1])
    assert 0 < np.abs(found - wanted[:, 8]).max() < 0.03 * np.abs(wanted).max()


def test_unknown_weights():
    model, params, _ = decoder("attention")
    with pytest.raises(ConfigError, match="weights must be one of int8, or None, got 'int4'"):
        model.apply({"params": params}, "int4", method="prepare", mutable=["constants"])


@pytest.mark.parametrize("name", DECODERS)
def test_rows_of_different_lengths(name):
    """In one batch, filled up on the left, each row gives what it gives alone."""
    empty, ids_BN, full, prefill, step = compiled(name)
    lengths, place, new = (1, 5, 17), 20, LENGTH - 17
    full = np.asarray(full(ids_BN))
    rows = [np.concatenate([np.full(place - n, 7), row]) for n, row in zip(lengths, ids_BN, strict=True)]
    padded = np.stack([row[: place + new] for row in rows])
    pads = place - np.array(lengths)
    outputs, cache = prefill(padded[:, :place], empty, pads)
    more, cache = prefill(padded[:, place : place + 4], cache)
    outputs = [outputs, more]
    for index in range(place + 4, place + new):
        logits, cache = step(padded[:, index], cache)
        outputs.append(logits[:, None])
    found = np.concatenate(outputs, axis=1)
    for row, pad in enumerate(pads):
        wanted = full[row, : place + new - pad]
        np.testing.assert_allclose(found[row, pad:], wanted, atol=2e-5 * np.abs(full).max(), rtol=0)


@pytest.mark.parametrize("name", [name for name in DECODERS if "attention" not in DECODERS[name]["mixer"]])
def test_cache_does_not_grow_with_the_text(name):
    model, _, _ = decoder(name)
    assert jax.tree.map(jnp.shape, model.init_cache(2, 3)) == jax.tree.map(jnp.shape, model.init_cache(2, 30))


@jax.numpy_dtype_promotion("standard")  # Flax's own norms need it in bfloat16
@pytest.mark.parametrize("name", DECODERS)
def test_cache_keeps_its_shapes_and_types(name):
    """So that steps can go round in a compiled loop, in bfloat16 too."""
    config = ModelConfig(**SIZES | {"num_layers": 1, "max_length": 30, "dtype": "bfloat16"} | DECODERS[name])
    model = build_model(config)
    variables = {"params": jax.eval_shape(model.init, jax.random.key(0), jnp.ones((2, 3), int))["params"]}
    constants = jax.eval_shape(partial(model.apply, method="prepare", mutable=["constants"]), variables)[1]
    empty = jax.eval_shape(lambda: model.init_cache(2, 30))
    for given in (variables, variables | constants):
        filled = jax.eval_shape(partial(model.apply, method="prefill"), given, jnp.ones((2, 3), int), empty)[1]
        after = jax.eval_shape(partial(model.apply, method="step"), given, jnp.ones(2, int), filled)[1]
        assert empty == filled == after


def test_last_logits_alone():
    empty, ids_BN, _, prefill, _ = compiled("one tap")
    np.testing.assert_allclose(prefill(ids_BN, empty, last=True)[0], prefill(ids_BN, empty)[0][:, -1], atol=1e-5)


def test_the_cache_need_not_hold_the_pads():
    """Of rows of different lengths: a cache of just the longest row's tokens is enough."""
    model, params, ids_BN = decoder("attention")
    pads, rows = np.array([3, 0]), np.stack([np.concatenate([[7, 7, 7], ids_BN[0, :5]]), ids_BN[1, :8]])
    prefill = jax.jit(partial(model.apply, {"params": params}, method="prefill"))
    wanted = jax.jit(model.apply)({"params": params}, ids_BN[:2, :8])
    found, _ = prefill(rows, model.init_cache(2, 8), pads)
    np.testing.assert_allclose(found[1], wanted[1], atol=2e-5 * np.abs(wanted).max())
    np.testing.assert_allclose(found[0, 3:], wanted[0, :5], atol=2e-5 * np.abs(wanted).max())


def test_bad_sizes_of_a_cache():
    model = build_model(ModelConfig(positions="learned", max_length=8, **SIZES))
    for batch, length in ((0, 4), (2, 0)):
        with pytest.raises(ValueError, match="at least 1"):
            model.init_cache(batch, length)
    with pytest.raises(ValueError, match=r"length must be in 1\.\.model\.max_length \(8\), got 9"):
        model.init_cache(2, 9)
