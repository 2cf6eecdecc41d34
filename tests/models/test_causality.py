"""No output may depend on a later input: the gradient says so, with every parameter random."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fftnet_jax.config import CAUSAL_MIXERS, MIXERS, ModelConfig
from fftnet_jax.mixers import build_mixer
from fftnet_jax.models import Embeddings, build_model
from fftnet_jax.ops.stft_plan import FORMS as STFT_FORMS
from fftnet_jax.ops.taps import DIRECT_LIMIT

pytestmark = pytest.mark.as_shipped  # exactly 0 is a claim on optimised programs
WIDTH, VOCABULARY, LONGEST = 8, 13, 100
BOUND = 1e-5  # of the largest gradient: float32 rounding of the DFTs over the tokens
SIZES = {
    "width": WIDTH,
    "num_heads": 2,
    "window": 5,
    "filter_modes": 6,
    "filter_width": 7,
    "vocab_size": VOCABULARY,
    "num_layers": 1,
}

DECODERS = {name: {"mixer": name} for name in CAUSAL_MIXERS} | {
    "hybrid": {"mixer": ("causal_fftnet", "attention"), "num_layers": 2, "positions": "learned"},
    "post-norm": {"mixer": "causal_fftnet", "block_norm": "post", "positions": "sinusoidal", "embedding_norm": True},
    "hartley": {"mixer": "causal_stft", "spectrum": "hartley", "spectrum_norm": "ortho", "block_norm": "both"},
}


def random_params(module, inputs):
    """Random values on top of ones or zeros, so that nothing that starts at zero hides a leak."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), inputs).get("params", {})
    rng = np.random.default_rng(0)

    def fill(path, leaf):
        start = 1.0 if path[-1].key in ("scale", "skip") else 0.0
        return (start + 0.4 * rng.normal(size=leaf.shape)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(fill, shapes)


def gradients(function, x_BND):
    """[(t, gradient of a random projection of output t with respect to x)] for a few positions t."""
    length = x_BND.shape[1]
    places = sorted({0, length // 2, max(0, length - 2), length - 1})

    @jax.jit
    def run(x_BND):
        y_BND, pullback = jax.vjp(function, x_BND)
        g_BND = jax.random.normal(jax.random.key(3), y_BND.shape)
        here_TN = jax.nn.one_hot(jnp.array(places), length)
        return jax.vmap(lambda here_N: pullback(g_BND * here_N[None, :, None])[0])(here_TN)

    return list(zip(places, np.asarray(run(x_BND)), strict=True))


def leak(grads):
    """Largest gradient from a later input, relative to the largest of all; every t must depend on itself."""
    largest = max(np.abs(grad).max() for _, grad in grads)
    for t, grad in grads:
        assert np.abs(grad[:, t]).max() > 1e-4 * largest
    return max(np.abs(grad[:, t + 1 :]).max(initial=0) for t, grad in grads) / largest


def allowed(mixers, length):
    """Nothing without an FFT over the tokens; the STFT chooses by shape, so only its forced forms are held to it."""
    direct = length <= DIRECT_LIMIT or jax.default_backend() == "cpu"
    exact = {"attention", "causal_fftnet"} if direct else {"attention"}
    return 0 if exact.issuperset(mixers) else BOUND


def mixer_leak(name, length, **fields):
    mixer = build_mixer(name, ModelConfig(family="encoder", mixer=name, **SIZES | fields))
    x_BND = jax.random.normal(jax.random.key(1), (2, length, WIDTH))
    params = random_params(mixer, x_BND)
    return leak(gradients(lambda x: mixer.apply({"params": params}, x), x_BND))


def decoder_and_params(name):
    config = ModelConfig(ffn_width=11, max_length=LONGEST, **SIZES | DECODERS[name])
    model = build_model(config)
    return model, random_params(model, jnp.zeros((1, 1), jnp.int32))


@pytest.mark.parametrize("length", [1, 2, 33, 100])
@pytest.mark.parametrize("name", CAUSAL_MIXERS)
def test_mixer_sees_no_future(name, length):
    assert mixer_leak(name, length) <= allowed([name], length)


@pytest.mark.parametrize("form", STFT_FORMS)
@pytest.mark.parametrize("spectrum", ["real", "hartley"])
def test_forms_of_the_stft_see_no_future(form, spectrum):
    if form == "linear_phase" and spectrum == "hartley":
        return
    exact = form in ("windows", "direct")
    assert mixer_leak("causal_stft", 64, stft_form=form, spectrum=spectrum) <= (0 if exact else BOUND)


@pytest.mark.parametrize("name", [name for name in MIXERS if name not in CAUSAL_MIXERS])
def test_the_check_finds_the_leak_of_a_bidirectional_mixer(name):
    assert mixer_leak(name, 16) > 0.01


@pytest.mark.parametrize("name", MIXERS)
def test_class_says_what_the_configuration_says(name):
    assert build_mixer(name, ModelConfig(family="encoder", mixer=name, **SIZES)).causal == MIXERS[name]


@pytest.mark.parametrize("name", DECODERS)
def test_decoder_sees_no_future(name):
    length = 64
    model, params = decoder_and_params(name)
    ids_BN = jax.random.randint(jax.random.key(2), (2, length), 0, VOCABULARY)

    def logits(extra_BND):
        """Of the whole model, as a function of something added to its embeddings."""

        def add(call, args, kwargs, context):
            out = call(*args, **kwargs)
            return (
                out + extra_BND if isinstance(context.module, Embeddings) and context.method_name == "__call__" else out
            )

        with nn.intercept_methods(add):
            return model.apply({"params": params}, ids_BN)

    found = leak(gradients(logits, jnp.zeros((2, length, WIDTH))))
    assert found <= allowed(model.config.mixers, length)


@pytest.mark.parametrize("name", list(DECODERS)[len(CAUSAL_MIXERS) :])
def test_later_tokens_change_no_logits(name):
    model, params = decoder_and_params(name)
    ids_BN = np.random.default_rng(0).integers(VOCABULARY, size=(2, 40))
    changed_BN = ids_BN.copy()
    changed_BN[:, 25:] = (ids_BN[:, 25:] + 5) % VOCABULARY
    apply = jax.jit(lambda ids: model.apply({"params": params}, ids))
    before, after = apply(ids_BN), apply(changed_BN)
    difference_N = np.abs(before - after).max(axis=(0, 2)) / np.abs(before).max()
    assert difference_N[:25].max() <= 1e-5
    assert difference_N[25:].min() > 1e-3
