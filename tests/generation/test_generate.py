import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fftnet_jax.config import CAUSAL_MIXERS, ConfigError, ModelConfig
from fftnet_jax.generation import Sampling, generate
from fftnet_jax.generation.generate import _compiled
from fftnet_jax.models import build_model

LIMIT = 12
GREEDY = Sampling(0.0)


@pytest.fixture(scope="module")
def made():
    """Model and parameters by mixer, far from zero so that the choices are clear."""
    cache = {}

    def make(mixer):
        if mixer not in cache:
            sizes = {"vocab_size": 13, "width": 8, "num_layers": 1, "ffn_width": 8, "max_length": LIMIT}
            model = build_model(ModelConfig(mixer=mixer, num_heads=2, window=4, tie_head=False, **sizes))
            params = jax.jit(model.init)(jax.random.key(1), jnp.zeros((1, 1), jnp.int32))["params"]
            keys = iter(jax.random.split(jax.random.key(2), 100))
            params = jax.tree.map(lambda p: p + (p.ndim > 1) * jax.random.normal(next(keys), p.shape), params)
            cache[mixer] = model, params, jax.jit(lambda ids: model.apply({"params": params}, ids))
        return cache[mixer]

    return make


def tokens(model, params, prompt, count, how=GREEDY, seed=0):
    return np.stack(list(generate(model, params, prompt, count, how, seed)), axis=1)


@pytest.mark.parametrize("mixer", CAUSAL_MIXERS)
def test_greedy_is_argmax_of_the_whole_sequence_also_past_the_limit(mixer, made):
    model, params, logits_of = made(mixer)
    prompt = np.array([[1, 2, 3], [7, 0, 12]])
    out = tokens(model, params, prompt, 25)
    context, seen = prompt, []
    for _ in range(25):
        if context.shape[1] > LIMIT:  # the later half of what fits is read again
            context = context[:, -(LIMIT // 2) :]
        padded = np.pad(context, ((0, 0), (0, LIMIT - context.shape[1])))  # causal: what follows does not matter
        token = np.asarray(logits_of(padded))[:, context.shape[1] - 1].argmax(-1)
        seen.append(token)
        context = np.concatenate([context, token[:, None]], axis=1)
    np.testing.assert_array_equal(out, np.stack(seen, axis=1))
    assert len(np.unique(out)) > 2


def test_prompt_longer_than_the_limit_counts_with_its_end(made):
    model, params, _ = made("causal_fftnet")
    long = np.arange(30)[None] % 13
    np.testing.assert_array_equal(tokens(model, params, long, 5), tokens(model, params, long[:, -LIMIT:], 5))


def test_seed_decides(made):
    model, params, _ = made("causal_stft")
    draws = [tokens(model, params, [[1, 2]], 10, Sampling(2.0), seed).tolist() for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    batch = tokens(model, params, [[1, 2]] * 4, 10, Sampling(2.0))
    assert len({tuple(row) for row in batch}) == 4, "samples of one batch differ"
    greedy = tokens(model, params, [[1, 2], [5, 6], [1, 2]], 10)
    np.testing.assert_array_equal(greedy[1], tokens(model, params, [[5, 6]], 10)[0])


def test_step_is_traced_once(made):
    model, params, _ = made("causal_fftnet")
    how = Sampling(0.9, top_k=5, top_p=0.9)
    tokens(model, params, [[3, 4, 5]], 40, how)
    prefill, step = _compiled(model, how)
    assert step._cache_size() == 1
    assert prefill._cache_size() == 2  # the prompt, and half a context that is read again


def test_nothing_to_add(made):
    model, params, _ = made("causal_fftnet")
    assert list(generate(model, params, [[1]], 0)) == []


@pytest.mark.parametrize(
    "prompt, count, words",
    [
        ([[]], 1, "at least one token"),
        (np.zeros((0, 3)), 1, "at least one token"),
        ([1, 2], 1, r"shape \(2,\)"),
        ([[1, 13]], 1, r"0\.\.12, got 1\.\.13"),
        ([[-1, 1]], 1, r"0\.\.12, got -1\.\.1"),
        ([[1]], -1, "max_new_tokens must be at least 0, got -1"),
    ],
)
def test_wrong_input(prompt, count, words, made):
    model, params, _ = made("causal_fftnet")
    with pytest.raises(ConfigError, match=words):
        list(generate(model, params, prompt, count))
