from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fftnet_jax.spectral import causal_convolution, damped_waves, modal_convolution

MODES, WIDTH = 8, 5


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
def test_it_is_the_convolution_with_the_taps(length, block, group, seed):
    *args, dy = draw(length, seed)

    def plain(u, decay, frequency, mix, skip):
        t = jnp.arange(length)
        return causal_convolution(u, damped_waves(decay, frequency, t, t) @ mix, "direct") + skip[None, None] * u

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


@pytest.mark.parametrize("sizes", [{"block": 0}, {"group": 0}])
def test_sizes_below_one_are_refused(sizes):
    with pytest.raises(ValueError, match=">= 1"):
        modal_convolution(*draw(3, 0)[:4], **sizes)
