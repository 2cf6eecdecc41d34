import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fftnet_jax.config import CAUSAL_MIXERS, ModelConfig
from fftnet_jax.errors import ConfigError
from fftnet_jax.generation import Sampling, generate, sample
from fftnet_jax.models import build_model

module = importlib.import_module("fftnet_jax.generation.decoding")  # the name in the package is the function
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


def tokens(model, params, prompt, count, how=GREEDY, seed=0, weights=None):
    return np.stack(list(generate(model, params, prompt, count, how, seed, weights)), axis=1)


def recomputed(logits_of, prompts, count, choose):
    """The definition: each token from the whole sequence, rows one by one; `choose(logits_BV, index)`."""
    contexts, seen = [list(prompt) for prompt in prompts], []
    for index in range(count):
        # When a row is full, the later half of what fits is read again.
        contexts = [row if len(row) <= LIMIT else row[-(LIMIT // 2) :] for row in contexts]
        padded = np.array([row + [0] * (LIMIT - len(row)) for row in contexts])  # causal: what follows does not matter
        logits_BNV = np.asarray(logits_of(padded))
        last_BV = logits_BNV[np.arange(len(contexts)), [len(row) - 1 for row in contexts]]
        seen.append(np.asarray(choose(last_BV, index)))
        for row, token in zip(contexts, seen[-1].tolist(), strict=True):
            row.append(token)
    return np.stack(seen, axis=1)


@pytest.mark.parametrize("mixer", CAUSAL_MIXERS)
def test_greedy_is_argmax_of_the_whole_sequence_also_past_the_limit(mixer, made):
    model, params, logits_of = made(mixer)
    prompts = [[1, 2, 3], [7], [5, 0, 12, 3, 3, 8, 1, 0, 9, 10, 11], [4, 4, 6, 2, 5]]
    out = tokens(model, params, prompts, 25)
    np.testing.assert_array_equal(out, recomputed(logits_of, prompts, 25, lambda logits, _: logits.argmax(-1)))
    assert len(np.unique(out)) > 2


@pytest.mark.parametrize("count", [1, 3, 32, None])
def test_random_choices_are_the_seeds_whatever_the_host_takes_at_once(count, made, monkeypatch):
    model, params, logits_of = made("causal_fftnet")
    if count:
        monkeypatch.setattr(module, "_next_count", lambda made, seconds: count)
    prompts, how, key = [[1, 2, 3], [7, 0, 12]], Sampling(1.5), jax.random.key(4)
    choose = jax.jit(lambda logits, i: sample(logits, jax.random.fold_in(key, i), how))
    wanted = recomputed(logits_of, prompts, 25, choose)
    np.testing.assert_array_equal(tokens(model, params, prompts, 25, how, 4), wanted)


def test_host_takes_more_at_once_while_it_is_quick():
    counts = [1]
    for seconds in (5.0, 0.001, 0.001, 0.001, 0.001, 0.001, 0.001, 0.15, 10.0):
        counts.append(module._next_count(counts[-1], seconds))
    assert counts == [1, 1, 2, 4, 8, 16, 32, 32, 16, 1]


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


@pytest.mark.parametrize("mixer", CAUSAL_MIXERS)
def test_step_is_traced_once(mixer, made):
    model, params, _ = made(mixer)
    how = Sampling(0.9, top_k=5, top_p=0.9)
    for prompt in ([3, 4, 5], [3, 4, 5, 6], list(range(12)), list(range(11))):
        assert tokens(model, params, [prompt], 40, how).shape == (1, 40)
    _, prefill, decode = module._compiled(model, how, None)
    assert decode._cache_size() == 1
    assert prefill._cache_size() == 3  # of 4 and 12 tokens, and of half a context that is read again


def test_weights_of_8_bits(made):
    """Greedy text is the full pass's with the same weights."""
    model, params, _ = made("causal_fftnet")
    constants = model.apply({"params": params}, "int8", method="prepare", mutable=["constants"])[1]
    full = jax.jit(lambda ids: model.apply({"params": params, **constants}, ids))
    wanted = recomputed(full, [[1, 2, 3]], 20, lambda logits, _: logits.argmax(-1))
    np.testing.assert_array_equal(tokens(model, params, [[1, 2, 3]], 20, weights="int8"), wanted)
    with pytest.raises(ConfigError, match="weights must be one of int8"):
        next(generate(model, params, [[1]], 1, weights="int4"))


def test_reader_may_stop_early(made):
    model, params, _ = made("causal_fftnet")
    text = generate(model, params, [[1, 2]], 10**6, GREEDY)
    some = np.stack([next(text) for _ in range(7)], axis=1)
    text.close()
    np.testing.assert_array_equal(some, tokens(model, params, [[1, 2]], 7))


def test_nothing_to_add(made):
    model, params, _ = made("causal_fftnet")
    assert list(generate(model, params, [[1]], 0)) == []


@pytest.mark.parametrize(
    "prompt, count, words",
    [
        ([[]], 1, "at least one token"),
        (np.zeros((0, 3)), 1, "at least one token"),
        ([], 1, "at least one token, got shapes: none"),
        ([[1], []], 1, r"at least one token, got shapes: \(1,\), \(0,\)"),
        ([1, 2], 1, r"sequence of at least one token, got shapes: \(\), \(\)"),
        ([[1.5]], 1, "must be integers in 0..12, got 1.5"),
        ([[0], [1, 13]], 1, r"0\.\.12, got 1\.\.13"),
        ([[-1, 1]], 1, r"0\.\.12, got -1\.\.1"),
        ([[1]], -1, "max_new_tokens must be at least 0, got -1"),
    ],
)
def test_wrong_input(prompt, count, words, made):
    model, params, _ = made("causal_fftnet")
    with pytest.raises(ConfigError, match=words):
        list(generate(model, params, prompt, count))
