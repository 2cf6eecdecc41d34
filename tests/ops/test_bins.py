import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fftnet_jax.ops import bins
from fftnet_jax.ops.bins import DATA, KERNEL, REAL_IMAGINARY, RESULT, SINGLE_STAGE, TURNED

SIZES = [1, 2, 3, 7, 32, 33, 101, SINGLE_STAGE, SINGLE_STAGE + 2, 144, 160, 256, 512]


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@jax.jit
def later_half(before, x, h):
    """The linear convolution of 2T samples with up to T taps, at the later T."""
    size = len(x)
    X = bins.to_bins(jnp.concatenate([before, x]), size, DATA)
    return bins.from_bins(X * bins.to_bins(h, size, KERNEL), size, RESULT, offset=size)


@pytest.mark.parametrize("samples", SIZES)
def test_a_product_of_rows_is_a_convolution(samples):
    before, x, h = normal(0, samples, 2), normal(1, samples, 2), normal(2, samples, 2)
    both = np.concatenate([before, x]).astype(np.float64)
    wanted = np.stack([np.convolve(both[:, d], h[:, d])[samples : 2 * samples] for d in range(2)], axis=1)
    found = later_half(before, x, h)
    assert np.abs(found - wanted).max() <= 3e-6 * np.abs(wanted).max()


@given(samples=st.sampled_from(SIZES), seed=st.integers(0, 99), offset=st.sampled_from([0, 2, 0.5]))
def test_rows_are_the_spectrum(samples, seed, offset):
    x = normal(seed, samples, 1)
    frequency = bins.bin_order(samples)
    assert sorted(np.minimum(frequency, 2 * samples - frequency)) == list(range(samples + 1))
    places = np.arange(samples) + offset
    X = np.exp(-1j * np.pi * np.outer(frequency, places) / samples) @ x[:, 0]
    for rows, parts in ((REAL_IMAGINARY, (X.real, X.imag)), (TURNED, (X.imag, -X.real))):
        found = np.asarray(bins.to_bins(x, samples, rows, offset))[:, 0]
        np.testing.assert_allclose(found, np.stack(parts, axis=1).ravel(), atol=2e-6 * samples**0.5 * 4)


@pytest.mark.parametrize("samples", [5, 160])
def test_fewer_samples_stand_before_zeros(samples):
    x = normal(0, samples // 2, 2)
    whole = np.concatenate([x, np.zeros((samples - len(x), 2), np.float32)])
    np.testing.assert_allclose(bins.to_bins(x, samples, DATA), bins.to_bins(whole, samples, DATA), atol=1e-5)


@pytest.mark.parametrize("samples", SIZES)
def test_there_and_back(samples):
    x = normal(0, samples, 3)
    X = bins.to_bins(x, samples, REAL_IMAGINARY, offset=1.0)
    np.testing.assert_allclose(bins.from_bins(X, samples, REAL_IMAGINARY, offset=1.0), x, atol=1e-5)


@pytest.mark.parametrize("samples", SIZES)
@pytest.mark.parametrize("count", [2, 3])
def test_parts_of_the_bins(samples, count):
    """Each bin is in one part, and the inverse DFTs of the parts add up."""
    x, parts = normal(0, samples, 3), [(index, count) for index in range(min(count, samples + 1))]
    spectra = [bins.to_bins(x, samples, REAL_IMAGINARY, 1.0, part) for part in parts]
    order = np.concatenate([bins.bin_order(samples, part) for part in parts])
    assert sorted(order) == sorted(bins.bin_order(samples))
    np.testing.assert_allclose(
        sum(bins.from_bins(X, samples, REAL_IMAGINARY, 1.0, part) for X, part in zip(spectra, parts, strict=True)),
        x,
        atol=1e-5,
    )
    X = bins.to_bins(x, samples, REAL_IMAGINARY, 1.0).reshape(samples + 1, -1)
    whole = dict(zip(bins.bin_order(samples), np.asarray(X), strict=True))
    found = np.concatenate(spectra).reshape(samples + 1, -1)
    np.testing.assert_allclose(found, [whole[frequency] for frequency in order], atol=1e-4)


def test_two_stages_cost_less_than_one():
    assert bins.bins_cost(64, 3) == 3 * 65 * 64
    assert bins.bins_cost(512, 3) < 3 * 512**2 / 8
