import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fftnet_jax.spectral import window_spectrum

RUN = jax.jit(window_spectrum, static_argnums=(1, 2))
SIZES = st.sampled_from([(1, 1), (1, 6), (4, 1), (4, 6), (5, 7), (8, 3)])


def matrix(window, width, spectrum, norm="none"):
    """The whole map as a real (W D, W D) matrix."""
    eye = np.eye(window * width, dtype=np.float32).reshape(window * width, 1, window, width)
    return np.asarray(RUN(eye, spectrum, norm), np.float64).reshape(window * width, window * width)


@given(size=SIZES, spectrum=st.sampled_from(["real", "hartley"]), norm=st.sampled_from(["none", "ortho"]))
def test_window_spectrum_is_numpys(size, spectrum, norm):
    w_BNWD = np.random.default_rng(0).normal(size=(2, 3, *size))
    wanted = np.fft.fft2(w_BNWD)
    wanted = wanted.real if spectrum == "real" else wanted.real - wanted.imag
    wanted = wanted / np.sqrt(size[0] * size[1]) if norm == "ortho" else wanted
    found = RUN(w_BNWD.astype(np.float32), spectrum, norm)
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


@given(size=SIZES)
def test_hartley_loses_nothing_and_keeps_the_size(size):
    hartley = matrix(*size, "hartley", "ortho")
    np.testing.assert_allclose(hartley @ hartley, np.eye(len(hartley)), atol=1e-5)


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (8, 16)])
def test_real_part_loses_half(size):
    count = size[0] * size[1]
    assert np.linalg.matrix_rank(matrix(*size, "hartley"), tol=1e-3) == count
    rank = np.linalg.matrix_rank(matrix(*size, "real"), tol=1e-3)
    fixed = sum(2 * n % size[0] == 0 for n in range(size[0])) * sum(2 * n % size[1] == 0 for n in range(size[1]))
    assert rank == (count + fixed) // 2  # one of each pair w[n], w[-n]


@pytest.mark.parametrize("spectrum", ["real", "hartley"])
def test_transform_is_symmetric(spectrum):
    dft = matrix(5, 6, spectrum)
    np.testing.assert_allclose(dft, dft.T, atol=1e-5)


def test_bfloat16_goes_to_float32():
    assert window_spectrum(jax.numpy.ones((1, 1, 2, 2), jax.numpy.bfloat16)).dtype == np.float32
