from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fftnet_jax.spectral import causal_convolution, damped_waves, modal_convolution

MODES, WIDTH = 8, 8


def draw(length, seed, slowest=1e-4):
    rng = np.random.default_rng(seed)
    decay, frequency = np.exp(rng.uniform(np.log(slowest), 0, MODES)), rng.uniform(-3, 3, MODES)
    shapes = (2 * MODES, WIDTH), (WIDTH,), (2, length, WIDTH), (2, length, WIDTH)
    mix, skip, u, dy = (rng.normal(size=shape) for shape in shapes)
    return [array.astype(np.float32) for array in (u, decay, frequency, mix, skip, dy)]


@given(
    length=st.sampled_from([1, 2, 7, 64, 97, 128, 301]),
    block=st.sampled_from([1, 16, 50, 512]),
    group=st.sampled_from([1, 2, 5, 32]),
    seed=st.integers(0, 99),
)
@example(length=301, block=16, group=2, seed=0)  # 19 blocks: no multiple of the terms of a sum
def test_it_is_the_convolution_with_the_taps(length, block, group, seed):
    *args, dy = draw(length, seed)

    def plain(u, decay, frequency, mix, skip):
        t = jnp.arange(length)
        return causal_convolution(u, damped_waves(decay, frequency, t, t) @ mix, "direct") + skip[None, None] * u

    @partial(jax.jit, static_argnums=0)
    def with_gradients(function):
        y, pull = jax.vjp(function, *args)
        return jax.tree.leaves((y, pull(dy)))

    found = with_gradients(partial(modal_convolution, block=block, group=group))
    for new, old in zip(found, with_gradients(plain), strict=True):
        assert np.abs(new - old).max() <= 1e-5 * np.abs(old).max()


def test_slow_modes_stay_exact_over_many_blocks():
    length = 20_000
    u, decay, frequency, mix, _, _ = draw(length, 0, slowest=1e-6)
    t = np.arange(length)[:, None]
    envelope, angle = np.exp(-t * decay.astype(float)), t * frequency.astype(float)
    taps = np.concatenate([envelope * np.cos(angle), envelope * np.sin(angle)], axis=1) @ mix.astype(float)
    U, H = (np.fft.rfft(array, n=2 * length, axis=-2) for array in (u.astype(float), taps))
    wanted = np.fft.irfft(U * H, axis=-2)[:, :length]
    found = jax.jit(partial(modal_convolution, block=8))(u, decay, frequency, mix)
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_second_derivatives_over_several_blocks():
    u, decay, frequency, mix, _, _ = draw(50, 0)

    def plain(u, decay, frequency, mix):
        t = jnp.arange(50)
        return causal_convolution(u, damped_waves(decay, frequency, t, t) @ mix, "direct")

    def twice(function):
        loss = lambda *args: jnp.tanh(function(*args)).sum()  # noqa: E731
        squares = lambda *args: sum((part**2).sum() for part in jax.grad(loss, (0, 1, 2, 3))(*args))  # noqa: E731
        return jax.jit(jax.grad(squares, (0, 1, 2, 3)))(u, decay, frequency, mix)

    for found, wanted in zip(twice(partial(modal_convolution, block=16)), twice(plain), strict=True):
        assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()


def test_more_channels_than_one_group():
    u, mix = np.ones((1, 40, 33), np.float32), np.ones((2 * MODES, 33), np.float32)
    _, decay, frequency, *_ = draw(1, 0)
    t = jnp.arange(40)
    wanted = causal_convolution(u, damped_waves(decay, frequency, t, t) @ mix, "direct")
    assert np.abs(modal_convolution(u, decay, frequency, mix) - wanted).max() <= 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("changes", [{"block": 0}, {"group": 0}, {"u_BND": np.ones((1, 0, WIDTH), np.float32)}])
def test_sizes_below_one_are_refused(changes):
    names = ("u_BND", "decay_M", "frequency_M", "mix_MD")
    with pytest.raises(ValueError, match=">= 1"):
        modal_convolution(**dict(zip(names, draw(3, 0), strict=False)) | changes)


def test_another_number_of_channels_is_refused():
    u, decay, frequency, mix, *_ = draw(3, 0)
    with pytest.raises(ValueError, match="same D"):
        modal_convolution(u, decay, frequency, mix[:, 1:])
