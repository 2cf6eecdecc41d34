import jax
import numpy as np
import pytest

from fftnet_jax.mixers import FFTNet
from fftnet_jax.models import FFTNetLayer


def normalise(x):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)


@pytest.mark.parametrize("layer_norm", (True, False))
def test_fftnet_layer_is_the_mixer_between_two_norms(layer_norm):
    x_BND = jax.random.normal(jax.random.key(0), (2, 9, 6))
    layer = FFTNetLayer(6, filter_width=5, layer_norm=layer_norm)
    params = layer.init(jax.random.key(1), x_BND)["params"]
    around = normalise if layer_norm else lambda x: x
    mixed = FFTNet(6, hidden=5).apply({"params": params["mixer"]}, around(x_BND))
    np.testing.assert_allclose(layer.apply({"params": params}, x_BND), around(x_BND + mixed), atol=1e-5)
    assert ("mixer_norms_0" in params) == layer_norm
    assert "ffn" not in params
