from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fftnet_jax.mixers import CausalSTFT

WIDTH = 5


@partial(jax.jit, static_argnums=0)
def run(mixer, params, x):
    return mixer.apply({"params": params}, x)


def transform(array, spectrum, norm, axes):
    F = np.fft.fft2(array.astype(np.float64), axes=axes)
    F = F.real if spectrum == "real" else F.real - F.imag
    return F / np.sqrt(array.shape[axes[0]] * array.shape[axes[1]]) if norm == "ortho" else F


def params_of(window, seed):
    rng = np.random.default_rng(seed)
    kernel = rng.normal(size=(window * WIDTH, WIDTH)).astype(np.float32)
    return {"projection": {"kernel": kernel, "bias": rng.normal(size=WIDTH).astype(np.float32)}}


@given(
    length=st.sampled_from([1, 2, 7, 12]),
    window=st.sampled_from([1, 2, 5, 8, 16]),
    spectrum=st.sampled_from(["real", "hartley"]),
    norm=st.sampled_from(["none", "ortho"]),
    seed=st.integers(0, 99),
)
def test_mixer_is_a_causal_convolution_with_the_transformed_kernel(length, window, spectrum, norm, seed):
    """The identity at the end of the originals' description: no window, no FFT of the data."""
    params = params_of(window, seed)
    x = np.random.default_rng(seed + 1).normal(size=(2, length, WIDTH)).astype(np.float32)
    kernel_WDO = transform(params["projection"]["kernel"].reshape(window, WIDTH, WIDTH), spectrum, norm, (0, 1))
    wanted = np.zeros(x.shape) + params["projection"]["bias"]
    for t in range(length):
        for lag in range(min(window, t + 1)):
            wanted[:, t] += x[:, t - lag] @ kernel_WDO[window - 1 - lag]
    mixer = CausalSTFT(WIDTH, window, spectrum, norm)
    found = run(mixer, params, x)
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("length, window", [(7, 3), (4, 6)])
def test_gradients_are_those_of_the_convolution(length, window):
    params = params_of(window, 0)
    x, g = (np.random.default_rng(i).normal(size=(2, length, WIDTH)).astype(np.float32) for i in (1, 2))
    mixer = CausalSTFT(WIDTH, window)
    dx = jax.grad(lambda x: (run(mixer, params, x) * g).sum())(jnp.asarray(x))
    dkernel = jax.grad(lambda p: (mixer.apply({"params": p}, jnp.asarray(x)) * g).sum())(params)["projection"]["kernel"]
    kernel_WDO = transform(params["projection"]["kernel"].reshape(window, WIDTH, WIDTH), "real", "none", (0, 1))
    wanted_dx, wanted_dK = np.zeros(x.shape), np.zeros((window, WIDTH, WIDTH))
    for t in range(length):
        for lag in range(min(window, t + 1)):
            wanted_dx[:, t - lag] += g[:, t] @ kernel_WDO[window - 1 - lag].T
            wanted_dK[window - 1 - lag] += x[:, t - lag].T @ g[:, t]
    wanted_dkernel = transform(wanted_dK, "real", "none", (0, 1)).reshape(dkernel.shape)  # the map is symmetric
    assert np.abs(dx - wanted_dx).max() <= 1e-5 * np.abs(wanted_dx).max()
    assert np.abs(dkernel - wanted_dkernel).max() <= 1e-5 * np.abs(wanted_dkernel).max()


@pytest.mark.parametrize("spectrum, norm", [("real", "none"), ("hartley", "ortho")])
def test_frequency_response_is_that_of_the_convolution(spectrum, norm):
    window, points = 6, 17
    params = params_of(window, 3)
    kernel_WDO = transform(params["projection"]["kernel"].reshape(window, WIDTH, WIDTH), spectrum, norm, (0, 1))
    wanted = np.zeros((points, WIDTH))
    for f, cycles in enumerate(np.linspace(0, 0.5, points)):
        response_DO = np.einsum("w,wdo->do", np.exp(-2j * np.pi * cycles * np.arange(window)), kernel_WDO)
        wanted[f] = np.sqrt((np.abs(response_DO) ** 2).mean(axis=0))
    mixer = CausalSTFT(WIDTH, window, spectrum, norm)
    found = mixer.apply({"params": params}, points, method="frequency_response")
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
