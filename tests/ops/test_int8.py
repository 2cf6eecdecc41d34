import jax.numpy as jnp
import numpy as np
import pytest

from fftnet_jax import ops


def draw(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def test_each_weight_is_within_half_a_step():
    weight_DO = draw(40, 6).at[:, 2].set(0.0) * jnp.array([1e-30, 1, 1, 1e3, 1, 1e30])[None]
    found = ops.quantised(weight_DO)
    assert found.values_DO.dtype == jnp.int8 and found.scale_1O.shape == (1, 6)
    assert np.abs(found.values_DO).max(axis=0).tolist() == [127, 127, 0, 127, 127, 127]
    error_O = np.abs(found.dequantised() - weight_DO).max(axis=0)
    assert (error_O <= 0.501 * np.abs(weight_DO).max(axis=0) / 127).all()


@pytest.mark.parametrize("name", ["reference", "cpu", "tpu"])
@pytest.mark.parametrize("rows", [(1,), (2, 3), (9,)])
def test_products(name, rows):
    """Those of the dequantised weight, for fewer rows than a tile has and for more."""
    x, weight = draw(*rows, 5), ops.quantised(draw(5, 6))
    wanted = x @ weight.dequantised()
    found = ops.weight_product(x, weight, implementation=name)
    parts = ops.weight_products(x, weight, 3, implementation=name)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(np.concatenate(parts, axis=-1), wanted, rtol=1e-5, atol=1e-5)
    assert ops.weight_product(x.astype(jnp.bfloat16), weight, implementation=name).dtype == jnp.bfloat16
