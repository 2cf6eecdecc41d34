import subprocess
import sys

import pytest

import fftnet_jax


@pytest.mark.parametrize("name", [*fftnet_jax.__all__, "interop", "mixers", "spectral"])
def test_public_names_are_there(name):
    assert getattr(fftnet_jax, name) is not None
    assert name in dir(fftnet_jax)


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="module 'fftnet_jax' has no attribute 'transformer'"):
        fftnet_jax.transformer  # noqa: B018


def test_the_configuration_needs_no_jax():
    code = "import sys, fftnet_jax; fftnet_jax.default_config(); print('jax' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
