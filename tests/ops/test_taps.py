import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fftnet_jax.ops.taps import DIRECT_LIMIT
from fftnet_jax.spectral import causal_convolution, fast_length, short_convolution

FORMS = ("direct", "fft", "matrix")
LENGTHS = [1, 2, 3, 8, 13, 31, 40]


def definition(u_BND, h_LD):
    """The double loop, float64."""
    y_BND = np.zeros(u_BND.shape)
    for n in range(u_BND.shape[1]):
        for lag in range(min(n + 1, len(h_LD))):
            y_BND[:, n] += h_LD[lag].astype(np.float64) * u_BND[:, n - lag]
    return y_BND


def definition_gradients(u_BND, h_LD, g_BND):
    """Gradients of sum(g * y), by their own double loop."""
    du_BND, dh_LD = np.zeros(u_BND.shape), np.zeros(h_LD.shape)
    for n in range(u_BND.shape[1]):
        for lag in range(min(n + 1, len(h_LD))):
            du_BND[:, n - lag] += h_LD[lag].astype(np.float64) * g_BND[:, n]
            dh_LD[lag] += (u_BND[:, n - lag].astype(np.float64) * g_BND[:, n]).sum(0)
    return du_BND, dh_LD


def values_and_gradients(function):
    @jax.jit
    def run(u, h, g):
        y, pullback = jax.vjp(function, u, h)
        return y, *pullback(g)

    return run


RUN = {form: values_and_gradients(lambda u, h, form=form: causal_convolution(u, h, form)) for form in FORMS}
RUN_SHORT = values_and_gradients(short_convolution)


def normal(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def assert_close(found, wanted, tolerance=1e-5):
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= tolerance * np.abs(wanted).max() + 1e-30


@pytest.mark.parametrize("form", FORMS)
@given(
    length=st.sampled_from(LENGTHS),
    taps=st.sampled_from(["one", "fewer", "equal", "more"]),
    seed=st.integers(0, 99),
)
def test_causal_convolution_is_the_double_loop(form, length, taps, seed):
    taps = {"one": 1, "fewer": (length + 1) // 2, "equal": length, "more": length + 3}[taps]
    u, h, g = normal(seed, (2, length, 3), (taps, 3), (2, length, 3))
    y, du, dh = RUN[form](u, h, g)
    wanted_du, wanted_dh = definition_gradients(u, h, g)
    assert_close(y, definition(u, h))
    assert_close(du, wanted_du)
    assert_close(dh, wanted_dh)


def test_forms_agree_on_a_long_input():
    u, h, g = normal(0, (1, 257, 2), (257, 2), (1, 257, 2))
    for found, wanted in zip(RUN["fft"](u, h, g), RUN["direct"](u, h, g), strict=True):
        assert_close(found, np.asarray(wanted))


def test_auto_takes_either_form_by_length():
    for length in (DIRECT_LIMIT, DIRECT_LIMIT + 1):
        jaxpr = str(jax.make_jaxpr(causal_convolution)(jnp.ones((1, length, 2)), jnp.ones((length, 2))))
        assert ("fft" in jaxpr) == (length > DIRECT_LIMIT)


def test_unknown_form():
    with pytest.raises(ValueError, match="'auto', 'direct', 'fft' or 'matrix', got 'slow'"):
        causal_convolution(jnp.ones((1, 2, 1)), jnp.ones((2, 1)), "slow")


@pytest.mark.parametrize("length", [129, 300])
def test_two_stages_of_products_make_the_convolution(length):
    u, h, g = normal(0, (2, length, 3), (length, 3), (2, length, 3))
    for found, wanted in zip(RUN["matrix"](u, h, g), RUN["fft"](u, h, g), strict=True):
        assert_close(found, np.asarray(wanted))


@pytest.mark.parametrize("u, h", [((1, 0, 2), (3, 2)), ((1, 3, 2), (0, 2)), ((1, 3, 2), (3, 1))])
def test_shapes_that_do_not_fit_are_named(u, h):
    with pytest.raises(ValueError, match="the same D, got input"):
        causal_convolution(jnp.ones(u), jnp.ones(h))


def test_causal_convolution_computes_in_float32():
    u, h = normal(1, (1, 40, 2), (40, 2))
    u = jnp.asarray(u, jnp.bfloat16)
    y = causal_convolution(u, h)
    assert y.dtype == jnp.float32
    assert_close(y, definition(np.asarray(u, np.float32), h))


@given(length=st.sampled_from([1, 2, 7, 16, 129, 300]), taps=st.sampled_from([1, 2, 4, 9]), seed=st.integers(0, 99))
def test_short_convolution_is_the_double_loop_from_where_it_has_a_past(length, taps, seed):
    past = taps - 1
    x, h, g = normal(seed, (2, past + length, 3), (taps, 3), (2, length, 3))
    y, dx, dh = RUN_SHORT(x, h, g)
    wanted_dx, wanted_dh = definition_gradients(x, h, np.pad(g, ((0, 0), (past, 0), (0, 0))))
    assert_close(y, definition(x, h)[:, past:])
    assert_close(dx, wanted_dx)
    assert_close(dh, wanted_dh)


def test_short_convolution_keeps_the_dtype():
    x, h = jnp.ones((1, 5, 2), jnp.bfloat16), jnp.ones((3, 2))
    assert short_convolution(x, h).dtype == jnp.bfloat16


def test_short_convolution_of_fewer_tokens_than_taps_is_refused():
    with pytest.raises(ValueError, match="as many tokens as taps, got input \\(1, 2, 2\\)"):
        short_convolution(jnp.ones((1, 2, 2)), jnp.ones((3, 2)))


def smooth(number):
    """Whether the number is 2^a 3^b 5^c, with b and c up to 3."""
    for prime, most in ((2, 99), (3, 3), (5, 3)):
        while number % prime == 0 and most:
            number, most = number // prime, most - 1
    return number == 1


def test_fast_length_is_the_next_smooth_number():
    for minimum in range(1, 2000):
        size = fast_length(minimum)
        assert size >= minimum
        assert smooth(size)
        assert not any(smooth(other) for other in range(minimum, size))


@given(st.integers(2000, 10**7))
def test_fast_length_of_large_numbers(minimum):
    assert smooth(fast_length(minimum))
    assert minimum <= fast_length(minimum) <= 1.125 * minimum
