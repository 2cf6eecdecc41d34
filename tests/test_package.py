import pytest

import fftnet_jax


@pytest.mark.parametrize("name", [*fftnet_jax.__all__, "interop", "mixers", "spectral"])
def test_public_names_are_there(name):
    assert getattr(fftnet_jax, name) is not None
    assert name in dir(fftnet_jax)


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="module 'fftnet_jax' has no attribute 'transformer'"):
        fftnet_jax.transformer  # noqa: B018
