import jax
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fftnet_jax.spectral import causal_windows, valid_windows

RUN = jax.jit(causal_windows, static_argnums=1)


@given(length=st.sampled_from([1, 2, 7, 12]), window=st.sampled_from([1, 2, 5, 16]), seed=st.integers(0, 99))
def test_causal_windows_end_at_each_token(length, window, seed):
    x_BND = np.random.default_rng(seed).normal(size=(2, length, 3)).astype(np.float32)
    wanted = np.zeros((2, length, window, 3), np.float32)
    for t in range(length):
        for row in range(window):
            token = t - window + 1 + row
            if token >= 0:
                wanted[:, t, row] = x_BND[:, token]
    np.testing.assert_array_equal(RUN(x_BND, window), wanted)


def test_valid_windows_lie_inside():
    x_BMD = np.random.default_rng(0).normal(size=(2, 9, 3)).astype(np.float32)
    found = valid_windows(x_BMD, 4)
    assert found.shape == (2, 6, 4, 3)
    for start in range(6):
        np.testing.assert_array_equal(found[:, start], x_BMD[:, start : start + 4])
