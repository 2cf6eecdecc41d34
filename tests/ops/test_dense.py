import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fftnet_jax.dense import Dense
from fftnet_jax.matmul import add_to_each, after, map_first_axis, matmul, matmul_by_bin, matmuls, sum_first_axis

size = st.sampled_from([1, 2, 3, 5, 8])


def same_with_gradients(found, wanted, *args):
    """Values, and gradients for a random cotangent."""
    (y, pull), (y_wanted, pull_wanted) = (jax.vjp(function, *args) for function in (found, wanted))
    dy = jnp.asarray(np.random.default_rng(1).normal(size=y.shape), y.dtype)
    for new, old in zip(jax.tree.leaves((y, pull(dy))), jax.tree.leaves((y_wanted, pull_wanted(dy))), strict=True):
        assert new.shape == old.shape and new.dtype == old.dtype
        assert np.abs(new - old).max() <= 1e-5 * max(np.abs(old).max(), 1e-3)


def draw(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


@given(rows=st.sampled_from([1, 2, 3, 8, 255, 256, 300, 301]), width=size, out=size)
def test_matmul(rows, width, out):
    same_with_gradients(matmul, lambda x, w: x @ w, draw(1, rows, width), draw(width, out))


@given(rows=st.sampled_from([1, 3, 256, 301]), count=st.sampled_from([1, 2, 3]), width=size)
def test_matmuls(rows, count, width):
    weights = [index + 1 + draw(width, 4) for index in range(count)]
    side_by_side = lambda product: lambda x, weights: jnp.concatenate(product(x, weights), axis=1)  # noqa: E731
    wanted = side_by_side(lambda x, weights: [x @ weight for weight in weights])
    same_with_gradients(side_by_side(matmuls), wanted, draw(rows, width), weights)


def test_after_changes_nothing():
    x = draw(2, 3, 4)
    np.testing.assert_array_equal(after(x, jnp.full((1, 4), -5.0)), x)
    assert after(x.astype(jnp.bfloat16), jnp.ones((1, 1))).dtype == jnp.bfloat16


@given(bins=size, chunks=size, width=size, out=size)
def test_matmul_by_bin(bins, chunks, width, out):
    wanted = lambda X, H: jnp.einsum("frbce,feo->frbco", X, H)  # noqa: E731
    same_with_gradients(matmul_by_bin, wanted, draw(bins, 2, 3, chunks, width), draw(bins, width, out))


@given(places=size, bins=size, width=size)
def test_map_first_axis(places, bins, width):
    matrix = np.random.default_rng(2).normal(size=(bins, places))
    wanted = lambda x: jnp.tensordot(jnp.asarray(matrix, jnp.float32), x, axes=1)  # noqa: E731
    same_with_gradients(lambda x: map_first_axis(matrix, x), wanted, draw(places, width, 2))


@given(rows=size, length=size, width=size)
def test_sums_over_the_first_axis(rows, length, width):
    x = draw(rows, length, width)
    same_with_gradients(sum_first_axis, lambda x: x.sum(0), x)
    same_with_gradients(add_to_each, jnp.add, x, 1 + draw(1, length, width))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_matmul_takes_the_dtype_of_its_input_and_gives_gradients_in_their_own(dtype):
    y, pull = jax.vjp(matmul, draw(2, 3, 4).astype(dtype), draw(4, 5))
    dx, dweight = pull(y)
    assert (y.dtype, dx.dtype, dweight.dtype) == (dtype, dtype, jnp.float32)


@pytest.mark.parametrize("use_bias", [True, False])
def test_dense_is_that_of_flax(use_bias):
    x = draw(2, 5, 4)
    ours, wanted = Dense(3, use_bias), nn.Dense(3, use_bias)
    params = wanted.init(jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, ours.init(jax.random.key(0), x)) == jax.tree.map(jnp.shape, params)
    same_with_gradients(ours.apply, wanted.apply, params, x)


def test_second_derivatives_and_vmap():
    x, w = draw(300, 4), draw(4, 3)

    def twice(product):
        loss = lambda w, x: jnp.tanh(product(x, w)).sum()  # noqa: E731
        squares = lambda w, x: sum((part**2).sum() for part in jax.grad(loss, (0, 1))(w, x))  # noqa: E731
        return jax.grad(squares, (0, 1))(w, x), jax.vmap(jax.grad(loss), (None, 0))(w, jnp.stack([x, 2 * x]))

    in_turn = lambda x, w: sum(matmuls(x, [w, 0.5 * w]))  # noqa: E731
    for product, scale in ((matmul, 1.0), (in_turn, 1.5)):
        wanted = twice(lambda x, w, scale=scale: scale * jnp.matmul(x, w))
        for ours, theirs in zip(jax.tree.leaves(twice(product)), jax.tree.leaves(wanted), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())
