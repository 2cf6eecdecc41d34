import jax.numpy as jnp
import numpy as np

from fftnet_jax.mixers.base import zero_pads


def test_pads_are_zero_and_the_rest_stays():
    x = jnp.arange(1.0, 13.0, dtype=jnp.bfloat16).reshape(2, 3, 2)
    found = zero_pads(x, jnp.array([0, 2]))
    assert found.dtype == x.dtype
    np.testing.assert_array_equal(found[0], x[0])
    np.testing.assert_array_equal(found[1], [[0, 0], [0, 0], [11, 12]])
    assert zero_pads(x, None) is x
