import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fftnet_jax.data.windows import EvalWindows, TokenWindows
from fftnet_jax.tasks.masked_tokens import MaskedWindows

quick = settings(max_examples=60, deadline=None)


@quick
@given(size=st.integers(2, 60), length=st.integers(1, 20), rate=st.floats(0.01, 0.99), fresh=st.booleans())
def test_masked_windows(size, length, rate, fresh):
    source = EvalWindows(np.arange(size), length)
    masked = MaskedWindows(source, rate, 777, seed=3)
    indices = np.arange(len(masked))
    plain = source.batch(indices)
    batch = masked.batch(indices, np.random.default_rng(0) if fresh else None)
    chosen = batch["weights"] == 1
    assert chosen.any(axis=1).all()  # at least one in each window
    assert not chosen[plain["weights"] == 0].any()
    np.testing.assert_array_equal(batch["inputs"], np.where(chosen, 777, plain["inputs"]))
    np.testing.assert_array_equal(batch["targets"][chosen], plain["inputs"][chosen])  # the token that stood there
    assert not batch["weights"][~chosen].any()


def test_masks_depend_on_seed_and_index_alone():
    def masks(seed, indices, rng=None):
        return MaskedWindows(TokenWindows(np.arange(200), 50), 0.3, 999, seed).batch(indices, rng)["weights"].tolist()

    assert masks(1, [3, 4]) == masks(1, [3, 4]) == masks(1, [4, 3])[::-1]
    assert masks(1, [3]) != masks(2, [3]) and masks(1, [3]) != masks(1, [4])
    rng = np.random.default_rng(1)
    assert masks(1, [3], rng) != masks(1, [3], rng)  # fresh ones with a generator


def test_mask_rate_is_met():
    source = MaskedWindows(TokenWindows(np.arange(2000), 100), 0.15, 9999, 0)
    assert source.batch(np.arange(1000))["weights"].mean() == pytest.approx(0.15, abs=0.005)
