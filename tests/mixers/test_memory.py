"""Working memory of a forward and backward pass, as XLA plans it: the order of the gradients that `after` asks for."""

import jax
import jax.numpy as jnp
import pytest

from fftnet_jax.mixers import CausalFFTNet, CausalSTFT


@pytest.mark.parametrize(
    "mixer, shape, inputs",
    # In sizes of the input; left to itself, XLA takes 11.3 and 11.5.
    [(CausalFFTNet(256), (1, 8192, 256), 10), (CausalSTFT(64, window=32), (4, 512, 64), 9)],
)
def test_gradients_wait_for_one_another(mixer, shape, inputs):
    def both(params, x_BND, dy_BND):
        y_BND, pull = jax.vjp(mixer.apply, params, x_BND)
        return y_BND, pull(dy_BND)

    x_BND = jax.ShapeDtypeStruct(shape, jnp.float32)
    params = jax.eval_shape(mixer.init, jax.random.key(0), x_BND)
    memory = jax.jit(both).lower(params, x_BND, x_BND).compile().memory_analysis()
    assert memory.temp_size_in_bytes <= inputs * 4 * x_BND.size
