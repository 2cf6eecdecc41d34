"""Prefill and steps through a cache give what one call on the whole sequence gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fftnet_jax.config import CAUSAL_MIXERS, ModelConfig
from fftnet_jax.mixers import build_mixer
from fftnet_jax.models import build_model

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


def check(module, params, cache, inputs, splits=SPLITS):
    """`inputs` is (B, N) of tokens or (B, N, D)."""
    full = jax.jit(lambda x: module.apply({"params": params}, x))(inputs)
    prefill = jax.jit(lambda x, cache: module.apply({"params": params}, x, cache, method="prefill"))
    step = jax.jit(lambda x, cache: module.apply({"params": params}, x, cache, method="step"))
    shapes = jax.tree.map(jnp.shape, cache)
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
    assert step._cache_size() <= 1  # steps never compile again


@pytest.mark.parametrize("name", CAUSAL_MIXERS)
def test_mixer(name):
    mixer = build_mixer(name, ModelConfig(mixer=name, **SIZES))
    x_BND = jax.random.normal(jax.random.key(0), (BATCH, LENGTH, WIDTH))
    check(mixer, random_params(mixer, x_BND), mixer.init_cache(BATCH, LENGTH), x_BND, [(), (6, 6)])


@pytest.mark.parametrize("name", DECODERS)
def test_decoder(name):
    config = ModelConfig(**SIZES | {"num_layers": 1, "ffn_width": 11, "max_length": LENGTH + 4} | DECODERS[name])
    model = build_model(config)
    ids_BN = jax.random.randint(jax.random.key(0), (BATCH, LENGTH), 0, VOCABULARY)
    spare = 4 if name != "attention" else 0
    check(model, random_params(model, ids_BN), model.init_cache(BATCH, LENGTH + spare), ids_BN)


def test_bad_sizes_of_a_cache():
    model = build_model(ModelConfig(positions="learned", max_length=8, **SIZES))
    for batch, length in ((0, 4), (2, 0)):
        with pytest.raises(ValueError, match="at least 1"):
            model.init_cache(batch, length)
    with pytest.raises(ValueError, match=r"length must be in 1\.\.model\.max_length \(8\), got 9"):
        model.init_cache(2, 9)
