"""Layers under one loop are the same model: parameters, values, gradients, decoding; and its program does not grow."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fftnet_jax.config import ModelConfig
from fftnet_jax.models import build_model
from fftnet_jax.models.stack import repeats

SIZES = {"width": 8, "num_heads": 2, "num_layers": 4, "ffn_width": 11, "vocab_size": 13, "window": 4, "filter_modes": 3}
IDS = np.arange(24).reshape(2, 12) % 13
CASES = {
    "flagship": {},
    "pattern": {"mixer": ("causal_fftnet", "attention") * 2},
    "runs and a single one": {"mixer": ("attention",) * 2 + ("causal_stft",) * 2 + ("causal_fftnet",), "num_layers": 5},
    "remat": {"remat": True},
    "dropout": {"dropout": 0.3},
    "dropout, remat, no feed-forward part": {"dropout": 0.3, "remat": True, "ffn_width": 0},
    "encoder": {"family": "encoder", "mixer": "fftnet", "block_norm": "post", "filter_width": 5},
    "bfloat16": {"dtype": "bfloat16"},
    "bfloat16, no norm": {"dtype": "bfloat16", "family": "encoder", "mixer": "fourier", "block_norm": "none"},
}
PERIODS = {
    "a": [(1, 1)],
    "aaaa": [(1, 4)],
    "abab": [(2, 2)],
    "ababab": [(2, 3)],
    "aaabbb": [(1, 3), (1, 3)],
    "aabaab": [(3, 2)],
    "abcab": [(1, 1), (1, 1), (1, 1), (1, 1), (1, 1)],
    "xaaay": [(1, 1), (1, 3), (1, 1)],
}


def models(**options):
    config = ModelConfig(**SIZES | options)
    return [build_model(dataclasses.replace(config, scan_layers=scanned)) for scanned in (False, True)]


def loss_of(model):
    key = jax.random.key(1)

    def loss(params):
        logits = model.apply({"params": params}, IDS, model.config.dropout == 0, rngs={"dropout": key})
        return jnp.square(logits - 1).mean(), logits

    return loss


@pytest.mark.parametrize("kinds", PERIODS)
def test_repeats(kinds):
    assert repeats(kinds) == PERIODS[kinds]


@pytest.mark.parametrize("case", CASES)
def test_scanned_is_unrolled_in_parameters_values_and_gradients(case):
    params, results, bfloat16 = [], [], "bfloat16" in case
    for model in models(**CASES[case]):
        with jax.numpy_dtype_promotion("standard" if bfloat16 else "strict"):
            params.append(jax.jit(model.init)(jax.random.key(0), IDS)["params"])
            # Rounded where the program says so: else XLA keeps float32 where it pleases, in a loop elsewhere.
            exact = jax.jit(
                jax.value_and_grad(loss_of(model), has_aux=True),
                compiler_options={"xla_allow_excess_precision": False},
            )
            results.append(exact(params[0]))
    jax.tree.map(np.testing.assert_array_equal, *params)
    for wanted, found in zip(*map(jax.tree.leaves, results), strict=True):
        off = np.abs(found - wanted).max() / np.abs(wanted).max()
        assert off <= (1e-2 if bfloat16 else 1e-5)


@pytest.mark.parametrize("mixer", [("causal_fftnet",), ("causal_fftnet", "attention")])
def test_the_program_does_not_grow_with_depth(mixer):
    products = []
    for layers in (4, 8):
        _, model = models(mixer=mixer * (layers // len(mixer)), num_layers=layers)
        params = jax.eval_shape(model.init, jax.random.key(0), IDS)["params"]
        program = str(jax.make_jaxpr(jax.grad(loss_of(model), has_aux=True))(params))
        products.append(program.count(" dot_general["))
    assert products[0] == products[1] > 0


def test_decoding_is_unrolled_and_the_same():
    unrolled, scanned = models()
    params = jax.jit(unrolled.init)(jax.random.key(0), IDS)
    assert jax.tree.structure(unrolled.init_cache(2, 12)) == jax.tree.structure(scanned.init_cache(2, 12))
    logits, _ = jax.jit(lambda cache: scanned.apply(params, IDS, cache, method="prefill"))(scanned.init_cache(2, 12))
    np.testing.assert_allclose(logits, jax.jit(scanned.apply)(params, IDS), atol=1e-5)
