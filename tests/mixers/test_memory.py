"""Working memory of a forward and backward pass, as XLA plans it."""

import jax
import jax.numpy as jnp
import pytest

from fftnet_jax.mixers import CausalFFTNet, CausalSTFT


@pytest.mark.as_shipped
@pytest.mark.parametrize(
    "mixer, shape, inputs",
    # In sizes of the input.
    [(CausalFFTNet(256), (1, 8192, 256), 10), (CausalSTFT(64, window=32), (4, 512, 64), 9)],
)
def test_working_memory_stays_within_so_many_inputs(mixer, shape, inputs):
    def both(params, x_BND, dy_BND):
        y_BND, pull = jax.vjp(mixer.apply, params, x_BND)
        return y_BND, pull(dy_BND)

    x_BND = jax.ShapeDtypeStruct(shape, jnp.float32)
    params = jax.eval_shape(mixer.init, jax.random.key(0), x_BND)
    memory = jax.jit(both).lower(params, x_BND, x_BND).compile().memory_analysis()
    assert memory.temp_size_in_bytes <= inputs * 4 * x_BND.size
