from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fftnet_jax import ops
from fftnet_jax.ops.products import map_first_axis, matmul_by_bin

size = st.sampled_from([1, 2, 3, 5, 8])


def same_with_gradients(found, wanted, *args):
    """Values, and gradients for a random cotangent."""
    (y, pull), (y_wanted, pull_wanted) = (jax.vjp(function, *args) for function in (found, wanted))
    dy = jax.tree.map(lambda y: jnp.asarray(np.random.default_rng(1).normal(size=y.shape), y.dtype), y)
    for new, old in zip(jax.tree.leaves((y, pull(dy))), jax.tree.leaves((y_wanted, pull_wanted(dy))), strict=True):
        assert new.shape == old.shape and new.dtype == old.dtype
        assert np.abs(new - old).max() <= 1e-5 * max(np.abs(old).max(), 1e-3)


def draw(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


@given(rows=st.sampled_from([1, 2, 3, 8, 255, 256, 300, 301]), width=size, out=size)
def test_matmul(rows, width, out):
    same_with_gradients(ops.matmul.form("cpu"), lambda x, w: x @ w, draw(1, rows, width), draw(width, out))


@given(rows=st.sampled_from([1, 3, 256, 301]), count=st.sampled_from([1, 2, 3]), width=size)
def test_matmuls(rows, count, width):
    cpu, plain = (partial(ops.matmuls, count=count, implementation=name) for name in ("cpu", "reference"))
    same_with_gradients(cpu, plain, draw(rows, width), draw(width, 4 * count))


@given(bins=size, chunks=size, width=size, out=size)
def test_matmul_by_bin(bins, chunks, width, out):
    wanted = lambda X, H: jnp.einsum("frbce,feo->frbco", X, H)  # noqa: E731
    same_with_gradients(matmul_by_bin, wanted, draw(bins, 2, 3, chunks, width), draw(bins, width, out))


@given(places=size, bins=size, width=size)
def test_map_first_axis(places, bins, width):
    matrix = np.random.default_rng(2).normal(size=(bins, places))
    wanted = lambda x: jnp.tensordot(jnp.asarray(matrix, jnp.float32), x, axes=1)  # noqa: E731
    same_with_gradients(lambda x: map_first_axis(matrix, x), wanted, draw(places, width, 2))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_matmul_takes_the_dtype_of_its_input_and_gives_gradients_in_their_own(dtype):
    y, pull = jax.vjp(ops.matmul.form("cpu"), draw(2, 3, 4).astype(dtype), draw(4, 5))
    dx, dweight = pull(y)
    assert (y.dtype, dx.dtype, dweight.dtype) == (dtype, dtype, jnp.float32)
