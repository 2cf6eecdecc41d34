"""Every form of the causal STFT gives the definition's values and gradients."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fftnet_jax.ops.stft_plan import FORMS, STFTPlan
from fftnet_jax.spectral import causal_stft

# tokens, channels, window, spectrum, norm, whether earlier tokens are given: odd, even, prime, one, window > text.
# Blocks take three real products a complex one in the two long cases, four in the others.
CASES = [
    (29, 10, 6, "real", "none", False),
    (29, 7, 5, "hartley", "ortho", True),
    (12, 6, 40, "real", "ortho", False),
    (5, 3, 1, "hartley", "none", True),
    (1, 4, 3, "real", "none", True),
    (41, 1, 3, "real", "ortho", True),
    (80, 2, 2, "hartley", "none", False),
    (64, 5, 17, "real", "none", True),
]
OUT, BATCH = 4, 2


def plans(length, window, spectrum, with_past):
    if spectrum == "real" and window > 1 and (with_past or window <= length):
        yield STFTPlan("linear_phase", window)
        yield STFTPlan("linear_phase", window + 3)
    yield STFTPlan("direct", 0, "data")
    yield STFTPlan("direct", 0, "kernel")
    yield STFTPlan("blocks", window, "data")
    yield STFTPlan("blocks", 3, "kernel")
    yield STFTPlan("blocks", window + 2, "kernel")


@lru_cache(maxsize=32)
def compiled(case):
    """Values and gradients of the definition and of each plan, one program."""
    length, _, window, spectrum, norm, with_past = case

    def one(plan, x, w, past, g):
        past = past if with_past else None
        y, pullback = jax.vjp(lambda *args: causal_stft(*args, spectrum, norm, past, plan), x, w)
        return y, *pullback(g)

    every = [STFTPlan("windows"), *plans(length, window, spectrum, with_past)]
    return every, jax.jit(lambda *args: [one(plan, *args) for plan in every])


@pytest.mark.parametrize("case", CASES, ids=str)
@given(seed=st.integers(0, 99))
def test_forms_agree(case, seed):
    length, width, window = case[:3]
    rng = np.random.default_rng(seed)
    sizes = [(BATCH, length, width), (window, width, OUT), (BATCH, window - 1, width), (BATCH, length, OUT)]
    x, w, past, g = (rng.normal(size=size).astype(np.float32) for size in sizes)
    every, run = compiled(case)
    wanted, *found = run(x, w, past, g)
    for plan, parts in zip(every[1:], found, strict=True):
        for name, part, reference in zip(("y", "dx", "dw"), parts, wanted, strict=True):
            assert part.shape == reference.shape
            error = np.abs(part - reference).max() / np.abs(reference).max()
            assert error <= 1e-5, (plan, name, error)


def test_the_definition_is_the_double_sum():
    """The form that the others are tied to, against NumPy in float64."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, 9, 4)), rng.normal(size=(5, 4, 3))
    padded = np.concatenate([np.zeros((2, 4, 4)), x], axis=1)
    wanted = np.zeros((2, 9, 3))
    for t in range(9):
        wanted[:, t] = np.einsum("bwd,wdo->bo", np.fft.fft2(padded[:, t : t + 5]).real, w)
    found = causal_stft(x.astype(np.float32), w.astype(np.float32), plan="windows")
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_long_blocks_in_two_stages():
    rng = np.random.default_rng(1)
    x, w = rng.normal(size=(1, 300, 3)).astype(np.float32), rng.normal(size=(150, 3, 2)).astype(np.float32)
    run = jax.jit(lambda plan, x, w: causal_stft(x, w, plan=plan), static_argnums=0)
    wanted = np.asarray(run(STFTPlan("windows"), x, w))
    for plan in (STFTPlan("blocks", 160, "data"), STFTPlan("blocks", 144, "kernel"), STFTPlan("linear_phase", 160)):
        assert np.abs(run(plan, x, w) - wanted).max() <= 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("width", [1, 2])
def test_long_blocks_of_one_or_two_channels(width):
    """Which have no sines over the channels."""
    rng = np.random.default_rng(3)
    x, w = rng.normal(size=(1, 300, width)).astype(np.float32), rng.normal(size=(150, width, 2)).astype(np.float32)
    run = jax.jit(lambda plan, x, w: causal_stft(x, w, plan=plan), static_argnums=0)
    wanted = np.asarray(run("windows", x, w))
    for form in ("auto", "linear_phase", STFTPlan("blocks", 160, "data"), STFTPlan("blocks", 160, "kernel")):
        assert np.abs(run(form, x, w) - wanted).max() <= 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("form", ["auto", *FORMS])
def test_a_form_by_name(form):
    rng = np.random.default_rng(2)
    x, w = rng.normal(size=(2, 7, 3)).astype(np.float32), rng.normal(size=(4, 3, 3)).astype(np.float32)
    wanted = np.asarray(causal_stft(x, w, plan=STFTPlan("windows")))
    found = jax.jit(lambda x, w: causal_stft(x, w, plan=form))(x, w)
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_a_form_that_cannot_run():
    x, w = np.ones((1, 3, 2), np.float32), np.ones((4, 2, 2), np.float32)
    for plan in ("linear_phase", STFTPlan("linear_phase", 4)):
        with pytest.raises(ValueError, match="'linear_phase' needs spectrum 'real'"):
            causal_stft(x, w, plan=plan)


@pytest.mark.parametrize("changes, message", [
    ({"x": (1, 0, 3)}, "length, width and window must be at least 1"),
    ({"x": (0, 4, 3)}, "must be at least 1"),
    ({"weight": (0, 3, 3)}, "must be at least 1"),
    ({"weight": (2, 4, 3)}, "must have the same D"),
    ({"past": (1, 2, 3)}, r"past must be \(B, W - 1, D\) = \(1, 1, 3\), got \(1, 2, 3\)"),
    ({"spectrum": "imaginary"}, "spectrum must be one of real, hartley; got 'imaginary'"),
    ({"norm": "forward"}, "norm must be one of none, ortho; got 'forward'"),
    ({"weight": (4, 3, 3), "plan": STFTPlan("linear_phase", 2)}, "of 2 tokens can't take a window of 4"),
    ({"plan": STFTPlan("blocks", 0)}, "block must be at least 1, got 0"),
    ({"plan": "fastest"}, "form must be 'auto' or one of"),
])  # fmt: skip
def test_what_cannot_be_computed_is_refused(changes, message):
    shapes = {"x": (1, 4, 3), "weight": (2, 3, 3)} | changes
    x, weight = (jnp.ones(shapes[name]) for name in ("x", "weight"))
    past = jnp.ones(shapes["past"]) if "past" in shapes else None
    with pytest.raises(ValueError, match=message):
        causal_stft(
            x, weight, shapes.get("spectrum", "real"), shapes.get("norm", "none"), past, shapes.get("plan", "auto")
        )
