import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fftnet_jax.errors import ConfigError
from fftnet_jax.generation import Sampling, keep_top, sample

LOGITS = st.lists(st.integers(-6, 6).map(float), min_size=7, max_size=7)  # integers, so that there are ties


@given(LOGITS, st.integers(0, 9))
def test_top_k_keeps_exactly_k_of_the_largest(logits, k):
    kept = np.isfinite(keep_top(jnp.array([logits, logits[::-1]]), top_k=k))
    for row, flags in zip((logits, logits[::-1]), kept, strict=True):
        wanted = sorted(row, reverse=True)[: k or len(row)]
        assert sorted(np.array(row)[flags], reverse=True) == wanted


@given(LOGITS, st.sampled_from([1e-9, 0.1, 0.35, 0.5, 0.77, 0.99, 1.0]))
def test_top_p_keeps_the_smallest_likeliest_set_of_that_mass(logits, p):
    out = np.asarray(keep_top(jnp.array([logits]), top_p=p))[0]
    kept = np.isfinite(out)
    mass = np.exp(np.array(logits)) / np.exp(logits).sum()
    assert kept.sum() >= 1
    assert (out[kept] == np.float32(logits)[kept]).all()
    if not kept.all():
        assert mass[kept].min() >= mass[~kept].max()
    assert mass[kept].sum() >= p - 1e-6
    assert mass[kept].sum() - mass[kept].min() < p + 1e-6, "a smaller set would do"


def test_top_p_counts_the_mass_that_top_k_leaves():
    logits = jnp.log(jnp.array([[0.4, 0.3, 0.2, 0.1]]))
    kept = np.isfinite(keep_top(logits, top_k=2, top_p=0.5))  # 0.4 of 0.7 is more than half
    assert kept.tolist() == [[True, False, False, False]]
    assert np.isfinite(keep_top(logits, top_p=0.5)).tolist() == [[True, True, False, False]]


@pytest.mark.parametrize("how", [Sampling(), Sampling(0.5), Sampling(2.0, top_k=3), Sampling(1.0, top_p=0.6)])
def test_choices_follow_the_distribution(how):
    p = np.array([0.05, 0.4, 0.25, 0.2, 0.1])
    wanted = p ** (1 / how.temperature) / (p ** (1 / how.temperature)).sum()
    wanted[~np.isfinite(keep_top(jnp.log(jnp.asarray(wanted))[None], how.top_k, how.top_p))[0]] = 0
    wanted /= wanted.sum()
    count = 20_000
    drawn = sample(jnp.tile(jnp.log(jnp.asarray(p, jnp.float32)), (count, 1)), jax.random.key(0), how)
    share = np.bincount(drawn, minlength=5) / count
    assert (share[wanted == 0] == 0).all()
    np.testing.assert_allclose(share, wanted, atol=4 * np.sqrt(0.25 / count))


@pytest.mark.parametrize("temperature", [0.0, 1e-50, 1e-38, 1e-6])
def test_cold_is_greedy(temperature):
    logits = jnp.array([[1.0, 9.0, 8.999], [-1e30, -1e30, 1e30], [0.0, 0.0, 0.0]])
    out = sample(logits, jax.random.key(0), Sampling(temperature, top_p=0.9))
    assert out[:2].tolist() == [1, 2]
    assert 0 <= int(out[2]) < 3


@pytest.mark.parametrize(
    "kwargs, words",
    [
        ({"temperature": -1.0}, "temperature .*got -1.0"),
        ({"temperature": float("nan")}, "temperature .*got nan"),
        ({"temperature": float("inf")}, "temperature .*got inf"),
        ({"top_k": -1}, "top_k .*got -1"),
        ({"top_p": 0.0}, "top_p .*got 0.0"),
        ({"top_p": 1.5}, "top_p .*got 1.5"),
        ({"top_p": float("nan")}, "top_p .*got nan"),
    ],
)
def test_wrong_settings(kwargs, words):
    with pytest.raises(ConfigError, match=words):
        Sampling(**kwargs)
