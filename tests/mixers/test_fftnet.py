from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fftnet_jax.mixers import AdaptiveSpectralFilter, FFTNet, Fourier, ModReLU

LENGTHS = st.sampled_from([1, 2, 5, 8, 13])
WIDTH, HIDDEN, POINTS = 6, 5, 4


@partial(jax.jit, static_argnums=0)
def run(mixer, params, x):
    return mixer.apply({"params": params}, x)


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def mixer_and_params(seed, kind="channel", points=POINTS):
    """An FFTNet whose parameters are all random, biases of both signs among them."""
    mixer = FFTNet(WIDTH, HIDDEN, kind, points)
    shapes = jax.eval_shape(mixer.init, jax.random.key(0), jnp.zeros((1, 3, WIDTH)))["params"]
    rng = np.random.default_rng(seed)
    return mixer, jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)


def gain(params, u, rows):
    spectral = params["spectral_filter"]
    hidden = np.maximum(u.mean(1) @ spectral["mlp_0"]["kernel"] + spectral["mlp_0"]["bias"], 0)
    delta = hidden @ spectral["mlp_1"]["kernel"] + spectral["mlp_1"]["bias"]
    return spectral["base"] + delta.reshape(len(u), rows, WIDTH)


def at_each_frequency(gain_BPD, length):
    """Linear interpolation over |frequency|, from 0 to Nyquist."""
    out = np.zeros((len(gain_BPD), length, WIDTH))
    for n in range(length):
        cycles = min(n, length - n) / length
        for b in range(len(gain_BPD)):
            for d in range(WIDTH):
                out[b, n, d] = np.interp(cycles, np.linspace(0, 0.5, gain_BPD.shape[1]), gain_BPD[b, :, d])
    return out


def definition(params, u, gain_BND):
    Z = np.fft.fft(u, axis=1) * gain_BND
    magnitude = np.abs(Z)
    return np.fft.ifft(np.maximum(magnitude + params["modrelu"]["bias"], 0) * Z / (magnitude + 1e-10), axis=1)


def assert_close(found, wanted, tolerance=1e-5):
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= tolerance * np.abs(wanted).max()


@given(length=LENGTHS, seed=st.integers(0, 99))
def test_channel_filter_is_the_originals(length, seed):
    mixer, params = mixer_and_params(seed)
    u = normal(seed, 2, length, WIDTH)
    assert_close(run(mixer, params, u), definition(params, u, gain(params, u, 1)).real)


@given(length=LENGTHS, seed=st.integers(0, 99))
def test_frequency_filter_interpolates_and_keeps_real_input_real(length, seed):
    mixer, params = mixer_and_params(seed, "frequency")
    u = normal(seed, 2, length, WIDTH)
    wanted = definition(params, u, at_each_frequency(gain(params, u, POINTS), length))
    assert np.abs(wanted.imag).max() <= 1e-10
    assert_close(run(mixer, params, u), wanted.real)


@pytest.mark.parametrize("length", [1, 2, 7, 16])
def test_filtered_spectrum_of_real_input_has_a_real_inverse(length):
    mixer, params = mixer_and_params(0, "frequency")
    u = normal(1, 2, length, WIDTH)
    spectral = AdaptiveSpectralFilter(WIDTH, HIDDEN, "frequency", POINTS)
    X = jnp.fft.fft(u, axis=1)
    Z = spectral.apply({"params": params["spectral_filter"]}, X, u)
    Z = ModReLU(WIDTH).apply({"params": params["modrelu"]}, Z)
    y = jnp.fft.ifft(Z, axis=1)
    assert np.abs(y.imag).max() <= 1e-5 * np.abs(y.real).max()
    np.testing.assert_allclose(run(mixer, params, u), y.real, atol=1e-5)


@pytest.mark.parametrize("kind", ["channel", "frequency"])
@pytest.mark.parametrize("length", [1, 2, 7, 8, 13])
def test_half_spectrum_is_the_whole_one(length, kind):
    _, params = mixer_and_params(0, kind)
    u, g = normal(1, 2, length, WIDTH), normal(2, 2, length, WIDTH)

    def values_and_gradients(half):
        mixer = FFTNet(WIDTH, HIDDEN, kind, POINTS, half)
        y, pullback = jax.vjp(lambda params, u: mixer.apply({"params": params}, u), params, u)
        return y, pullback(g)

    found, wanted = (jax.tree.leaves(jax.jit(values_and_gradients, static_argnums=0)(half)) for half in (True, False))
    for one, other in zip(found, wanted, strict=True):
        assert_close(one, np.asarray(other))


@pytest.mark.parametrize("length", [1, 6, 11])
def test_frequency_filter_of_equal_points_is_the_channel_filter(length):
    channel, params = mixer_and_params(0)
    frequency = FFTNet(WIDTH, HIDDEN, "frequency", POINTS)
    spectral = params["spectral_filter"]
    repeated = {
        "base": np.repeat(spectral["base"], POINTS, axis=0),
        "mlp_0": spectral["mlp_0"],
        "mlp_1": jax.tree.map(lambda leaf: np.tile(leaf, POINTS), spectral["mlp_1"]),
    }
    u = normal(1, 2, length, WIDTH)
    wanted = run(channel, params, u)
    found = frequency.apply({"params": params | {"spectral_filter": repeated}}, u)
    assert_close(found, np.asarray(wanted))


@given(length=LENGTHS, seed=st.integers(0, 99))
def test_without_bias_the_channel_filter_only_scales(length, seed):
    mixer, params = mixer_and_params(seed)
    params["modrelu"]["bias"] = np.zeros(WIDTH, np.float32)
    u = normal(seed, 2, length, WIDTH)
    assert_close(run(mixer, params, u), gain(params, u, 1) * u)


def test_fresh_modrelu_has_no_bias_and_fresh_base_is_one():
    params = FFTNet(WIDTH, HIDDEN).init(jax.random.key(0), jnp.ones((1, 3, WIDTH)))["params"]
    np.testing.assert_array_equal(params["modrelu"]["bias"], np.zeros(WIDTH))
    np.testing.assert_array_equal(params["spectral_filter"]["base"], np.ones((1, WIDTH)))


def test_modrelu_shifts_magnitudes_and_keeps_phases():
    Z = normal(0, 2, 5, WIDTH) + 1j * normal(1, 2, 5, WIDTH)
    bias = np.linspace(-1, 1, WIDTH).astype(np.float32)
    found = ModReLU(WIDTH).apply({"params": {"bias": bias}}, Z.astype(np.complex64))
    wanted = np.maximum(np.abs(Z) + bias, 0) * np.exp(1j * np.angle(Z))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@given(length=LENGTHS, seed=st.integers(0, 99))
def test_fourier_is_fnets(length, seed):
    x = normal(seed, 2, length, WIDTH)
    wanted = np.fft.fft(np.fft.fft(x, axis=-1), axis=1).real
    assert_close(run(Fourier(), {}, x), wanted)


@pytest.mark.parametrize("kind", ["channel", "frequency"])
def test_frequency_response_is_the_base(kind):
    mixer, params = mixer_and_params(0, kind)
    base = params["spectral_filter"]["base"]
    found = mixer.apply({"params": params}, 9, method="frequency_response")
    grid = np.linspace(0, 0.5, len(base))
    wanted = np.stack([np.abs(np.interp(np.linspace(0, 0.5, 9), grid, base[:, d])) for d in range(WIDTH)], axis=1)
    np.testing.assert_allclose(found, wanted, atol=1e-6)
