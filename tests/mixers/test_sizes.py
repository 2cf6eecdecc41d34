import jax
import jax.numpy as jnp
import pytest

from fftnet_jax.mixers import CausalFFTNet, CausalSTFT, FFTNet


@pytest.mark.parametrize(
    "mixer", [CausalFFTNet(4), CausalSTFT(4, 3), FFTNet(4)], ids=lambda mixer: type(mixer).__name__
)
def test_no_tokens_are_refused(mixer):
    with pytest.raises(ValueError, match=r"at least (one|1)"):
        mixer.init(jax.random.key(0), jnp.zeros((1, 0, 4)))


def test_a_window_of_no_tokens_is_refused():
    with pytest.raises(ValueError, match="window must be at least 1, got 0"):
        CausalSTFT(4, 0).init(jax.random.key(0), jnp.zeros((1, 3, 4)))
