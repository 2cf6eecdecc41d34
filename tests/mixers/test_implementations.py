"""Every mixer under every implementation: values, gradients, decoding; and derivatives of every other kind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fftnet_jax import ops
from fftnet_jax.config import CAUSAL_MIXERS, MIXERS, ModelConfig
from fftnet_jax.mixers import build_mixer

FASTER = ("cpu", "tpu")  # a GPU runs what a TPU does: `test_a_gpu_runs_what_a_tpu_does`
SIZES = {"num_heads": 2, "window": 5, "filter_modes": 4, "filter_width": 7, "filter_points": 3, "short_filter": 3}
CASES = {name: {} for name in MIXERS} | {
    "fftnet, a gain per frequency": {"filter": "frequency"},
    "causal_stft, hartley": {"spectrum": "hartley", "spectrum_norm": "ortho"},
    "causal_stft in blocks": {"stft_form": "blocks"},
    "causal_stft of linear phase": {"stft_form": "linear_phase", "window": 3},
    "causal_stft, direct": {"stft_form": "direct"},
}


def drawn(case, shape):
    """A mixer, random parameters, an input."""
    name = case.split(",")[0].split(" ")[0]
    mixer = build_mixer(name, ModelConfig(family="encoder", mixer=name, width=shape[2], **SIZES | CASES[case]))
    rng, x_BND = np.random.default_rng(0), jax.random.normal(jax.random.key(1), shape)
    shapes = jax.eval_shape(mixer.init, jax.random.key(0), x_BND)
    return mixer, jax.tree.map(lambda leaf: (0.4 * rng.normal(size=leaf.shape)).astype(np.float32), shapes), x_BND


def assert_same(found, wanted, tolerance=1e-5):
    """Within a part of the largest number of each array; of those close to zero, of the largest of all."""
    largest = max(np.abs(old).max() for old in jax.tree.leaves(wanted))
    for new, old in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert np.abs(new - old).max() <= tolerance * max(np.abs(old).max(), 0.01 * largest)


@pytest.mark.parametrize("length", [1, 2, 13, 64, 70])
@pytest.mark.parametrize("case", MIXERS)
def test_values_and_gradients(case, length):
    mixer, variables, x_BND = drawn(case, (2, length, 8))

    @jax.jit
    def run(variables, x_BND):
        y_BND, pull = jax.vjp(mixer.apply, variables, x_BND)
        return y_BND, *pull(jax.random.normal(jax.random.key(2), y_BND.shape))

    with ops.use("reference"):
        wanted = run(variables, x_BND)
    for name in FASTER:
        with ops.use(name):
            assert_same(run(variables, x_BND), wanted)


@pytest.mark.parametrize("name", ["reference", *FASTER])
@pytest.mark.parametrize("case", CAUSAL_MIXERS)
def test_decoding_equals_the_full_pass(case, name):
    mixer, variables, x_BND = drawn(case, (2, 70, 8))
    with ops.use(name):
        full = jax.jit(mixer.apply)(variables, x_BND)
        prefill, step = (
            jax.jit(lambda x, cache, method=method: mixer.apply(variables, x, cache, method=method))
            for method in ("prefill", "step")
        )
        cache, outputs = mixer.init_cache(2, 70), []
        for start, stop in ((0, 3), (3, 68)):
            y_BND, cache = prefill(x_BND[:, start:stop], cache)
            outputs.append(y_BND)
        for place in (68, 69):
            y_BD, cache = step(x_BND[:, place], cache)
            outputs.append(y_BD[:, None])
    assert_same(np.concatenate(outputs, axis=1), full, 2e-5)


@pytest.mark.parametrize("case", CASES)
def test_derivatives_of_every_other_kind(case):
    mixer, variables, x_BND = drawn(case, (1, 4, 4))
    direction = jax.tree.map(jnp.cos, (variables, x_BND))

    def loss(variables, x_BND):
        return jnp.sin(mixer.apply(variables, x_BND)).sum()

    def turn(x_BND, _):
        return jnp.tanh(mixer.apply(variables, x_BND)), None

    @jax.jit
    def run():
        return {
            "jvp": jax.jvp(mixer.apply, (variables, x_BND), direction),
            "hessian": jax.hessian(loss, 1)(variables, x_BND),
            "forward over reverse": jax.jvp(jax.grad(loss, (0, 1)), (variables, x_BND), direction)[1],
            "vmap": jax.vmap(jax.grad(loss, 1), (None, 0))(variables, jnp.stack([x_BND, 2 * x_BND])),
            "scan": jax.grad(lambda x_BND: jax.lax.scan(turn, x_BND, None, length=3)[0].sum())(x_BND),
        }

    with ops.use("reference"):
        wanted = run()
    for name in FASTER:
        with ops.use(name):
            found = run()
        for kind in wanted:
            assert_same(found[kind], wanted[kind], 1e-4)


def test_forward_mode_over_several_blocks():
    """Where the state of the modes is carried, which `hessian` above is too small for."""
    mixer, variables, x_BND = drawn("causal_fftnet", (1, 140, 4))
    direction = jax.tree.map(jnp.cos, (variables, x_BND))
    found = {}
    for name in ("reference", "cpu", "tpu"):
        with ops.use(name):
            found[name] = jax.jit(lambda v, x: jax.jvp(mixer.apply, (v, x), direction))(variables, x_BND)
    for name in ("cpu", "tpu"):
        assert_same(found[name], found["reference"], 2e-5)


@pytest.mark.parametrize("case", MIXERS)
@pytest.mark.parametrize("shape", [(5, 8), (2, 0, 8), (2, 5, 7), (1, 2, 5, 8)])
def test_a_mixer_says_what_shape_it_wants(case, shape):
    if case == "fourier" and shape == (2, 5, 7):
        return  # any width will do
    mixer, variables, _ = drawn(case, (2, 5, 8))
    with pytest.raises(ValueError, match=r"takes \(batch, tokens, (8|width)\), at least one of each, got \("):
        mixer.apply(variables, jnp.ones(shape))


@pytest.mark.parametrize("case", CAUSAL_MIXERS)
def test_a_step_says_what_shape_it_wants(case):
    mixer, variables, _ = drawn(case, (2, 5, 8))
    with pytest.raises(ValueError, match=r"takes \(batch, 8\), at least one of each, got \(2, 5, 8\)"):
        mixer.apply(variables, jnp.ones((2, 5, 8)), mixer.init_cache(2, 8), method="step")
