from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fftnet_jax.mixers import CausalFFTNet, SpectralModes

WIDTH, MODES, HORIZON, TAPS = 5, 6, 50, 3


@partial(jax.jit, static_argnums=0)
def run(mixer, params, x):
    return mixer.apply({"params": params}, x)


def random_params(module, *inputs, seed=0):
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: (0.5 * rng.normal(size=leaf.shape)).astype(np.float32), shapes)


def impulse_response(params, length):
    """h[t] = sum over modes of exp(-t / τ) (a cos ωt + b sin ωt), term by term."""
    h_LD = np.zeros((length, params["mix"].shape[1]))
    modes = len(params["frequency"])
    for t in range(length):
        for m in range(modes):
            envelope = np.exp(-t * np.exp(float(params["log_decay"][m])))
            angle = t * float(params["frequency"][m])
            h_LD[t] += envelope * (np.cos(angle) * params["mix"][m] + np.sin(angle) * params["mix"][modes + m])
    return h_LD


@pytest.mark.parametrize("length", [1, 2, 33, 100])
def test_modes_are_damped_oscillations(length):
    modes = SpectralModes(WIDTH, MODES, HORIZON)
    params = modes.init(jax.random.key(0), 1)["params"]
    np.testing.assert_allclose(modes.apply({"params": params}, length), impulse_response(params, length), atol=1e-5)


def test_fresh_modes_decay_within_one_token_to_the_horizon():
    params = SpectralModes(WIDTH, MODES, HORIZON).init(jax.random.key(0), 1)["params"]
    times = np.exp(-np.asarray(params["log_decay"]))
    np.testing.assert_allclose(times[[0, -1]], [1, HORIZON], rtol=1e-5)


@pytest.mark.parametrize("length", [1, 2, 7, 32, 33, 61])
def test_mixer_is_its_definition(length):
    mixer = CausalFFTNet(WIDTH, MODES, HORIZON, TAPS)
    x = np.random.default_rng(1).normal(size=(2, length, WIDTH)).astype(np.float32)
    params = random_params(mixer, x)
    h_LD = impulse_response(params["filter"], length)
    projected = x.astype(np.float64) @ params["qkv"]["kernel"]
    local = np.zeros(projected.shape)
    for lag in range(min(TAPS, length)):
        local[:, lag:] += params["taps"][lag] * projected[:, : length - lag]
    q, k, v = np.split(local, 3, axis=-1)
    y = params["skip"] * (k * v)
    for t in range(length):
        for lag in range(t + 1):
            y[:, t] += h_LD[lag] * (k * v)[:, t - lag]
    wanted = (q * y) @ params["out"]["kernel"]
    found = run(mixer, params, x)
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_frequency_response_is_that_of_the_filter_and_its_skip():
    mixer = CausalFFTNet(WIDTH, MODES, HORIZON, TAPS)
    params = random_params(mixer, jnp.zeros((1, 2, WIDTH)))
    points = 9
    taps = impulse_response(params["filter"], 2 * points - 2)
    wanted = [
        np.abs(np.exp(-2j * np.pi * cycles * np.arange(len(taps))) @ taps + params["skip"])
        for cycles in np.linspace(0, 0.5, points)
    ]
    found = mixer.apply({"params": params}, points, method="frequency_response")
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
