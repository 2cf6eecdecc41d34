from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fftnet_jax.spectral import advance_state, angles, causal_convolution, damped_waves, state_output

MODES, WIDTH = 8, 4


@given(longest=st.sampled_from([1, 300, 65_536, 130_000]), seed=st.integers(0, 99))
def test_angles_are_exact_however_far(longest, seed):
    rng = np.random.default_rng(seed)
    position = rng.integers(0, longest, 50)
    frequency = (rng.uniform(-np.pi, np.pi, MODES) * 10.0 ** rng.integers(-5, 1, MODES)).astype(np.float32)
    found = np.asarray(jax.jit(angles)(position.astype(np.float32), frequency), np.float64)
    turns = (found - position[:, None] * frequency.astype(np.float64)) / (2 * np.pi)
    assert np.abs(turns - np.round(turns)).max() * 2 * np.pi <= 2e-6
    assert np.abs(found).max() <= 4 * np.pi


def test_angles_have_the_gradient_of_the_product():
    frequency, position = jnp.array([0.3, -2.0]), jnp.arange(9.0)
    found = jax.grad(lambda frequency: jnp.sin(angles(position, frequency)).sum())(frequency)
    t = np.arange(9.0)[:, None]
    np.testing.assert_allclose(found, (t * np.cos(t * np.asarray(frequency, float))).sum(0), rtol=1e-4)


def test_waves_are_damped_by_age_and_turn_with_position():
    decay, frequency = np.array([0.1, 0.2], np.float32), np.array([0.5, 1.5], np.float32)
    age, position = np.array([0, 3, 4]), np.array([7, 8, 2])
    envelope, angle = np.exp(-age[:, None] * decay), position[:, None] * frequency
    wanted = np.concatenate([envelope * np.cos(angle), envelope * np.sin(angle)], axis=1)
    np.testing.assert_allclose(damped_waves(decay, frequency, age, position), wanted, atol=1e-6)


@jax.jit
def by_steps(state, u, decay, frequency, mix, start):
    def step(carry, u_BD):
        state, place = carry
        state = advance_state(state, u_BD[:, None], decay, frequency, place)
        waves = damped_waves(decay, frequency, jnp.zeros(1), place[None])
        return (state, place + 1), state_output(state, mix, waves)[:, 0]

    return jax.lax.scan(step, (state, start), u.swapaxes(0, 1))[1].swapaxes(0, 1)


@pytest.mark.parametrize("fastest", [1e-3, 3.0])  # radians per token
@pytest.mark.parametrize("read", [0, 1, 4000])  # at once, before the steps
def test_running_sums_make_the_convolution_of_a_long_past(read, fastest):
    length, rng = 6000, np.random.default_rng(0)
    decay = np.exp(rng.uniform(np.log(1e-5), np.log(1e-2), MODES)).astype(np.float32)
    frequency = rng.uniform(0, fastest, MODES).astype(np.float32)
    mix = rng.normal(size=(2 * MODES, WIDTH)).astype(np.float32)
    u = rng.normal(size=(2, length, WIDTH)).astype(np.float32)
    t = np.arange(length)[:, None]
    envelope, angle = np.exp(-t * decay.astype(float)), t * frequency.astype(float)
    taps = np.concatenate([envelope * np.cos(angle), envelope * np.sin(angle)], axis=1) @ mix.astype(float)
    U, H = (np.fft.rfft(array, n=2 * length, axis=-2) for array in (u.astype(float), taps))
    wanted = np.fft.irfft(U * H, axis=-2)[:, :length]

    state = jnp.zeros((2, 2 * MODES, WIDTH))
    if read:
        state = jax.jit(partial(advance_state, start=0))(state, u[:, :read], decay, frequency)
    found = by_steps(state, u[:, read:], decay, frequency, mix, read)
    assert np.abs(found - wanted[:, read:]).max() <= 1e-5 * np.abs(wanted).max()

    place = jnp.arange(length - read)  # all the rest at once
    old = state_output(state, mix, damped_waves(decay, frequency, place + 1, read + place))
    new = causal_convolution(u[:, read:], damped_waves(decay, frequency, place, place) @ mix)
    assert np.abs(old + new - wanted[:, read:]).max() <= 1e-5 * np.abs(wanted).max()
