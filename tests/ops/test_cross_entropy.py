"""The chunked loss against full logits: values, gradients, memory."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fftnet_jax.ops.cross_entropy import linear_token_sums
from fftnet_jax.tasks.sums import token_sums


def full_token_sums(x_BND, weight, bias_V, targets_BN, weights_BN, vocab_axis):
    """The definition."""
    logits_BNV = jnp.tensordot(x_BND, weight, ((2,), (1 - vocab_axis,)), precision="highest")
    return token_sums(logits_BNV if bias_V is None else logits_BNV + bias_V[None, None], targets_BN, weights_BN)


def problem(batch, length, width, vocab, vocab_axis=0, bias=True, share=0.6, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(batch, length, width)).astype(np.float32)
    weight = rng.normal(size=(vocab, width) if vocab_axis == 0 else (width, vocab)).astype(np.float32) / 2
    bias = rng.normal(size=vocab).astype(np.float32) if bias else None
    targets = rng.integers(0, vocab, (batch, length), np.int32)
    weights = (rng.random((batch, length)) < share).astype(np.float32)
    return x, weight, bias, targets, weights


def value_and_grads(sums_of, x, weight, bias, *rest):
    """(sums, gradients of three times the loss): the factor shows whether the backward pass scales."""

    def loss(x, weight, bias):
        sums = sums_of(x, weight, bias, *rest)
        return 3.0 * sums["loss"], sums

    (_, sums), grads = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))(x, weight, bias)
    return sums, grads


def assert_close(ours, wanted, tolerance=1e-5):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(wanted), strict=True):
        assert a.shape == b.shape
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert np.abs(a - b).max() <= tolerance * max(np.abs(b).max(), 1e-30)


@given(
    st.tuples(st.integers(1, 5), st.sampled_from([1, 2, 7, 13])),
    st.sampled_from([2, 31, 128, 257]),
    st.sampled_from([0, 1]),
    st.booleans(),
    st.sampled_from([0.0, 0.2, 1.0]),
    st.sampled_from([1, 3, 8, 1000]),
)
def test_equals_full_logits(shape, vocab, vocab_axis, bias, share, chunk_rows):
    x, weight, bias, targets, weights = problem(*shape, 5, vocab, vocab_axis, bias, share)
    wanted = value_and_grads(full_token_sums, x, weight, bias, targets, weights, vocab_axis)
    ours = value_and_grads(linear_token_sums, x, weight, bias, targets, weights, vocab_axis, chunk_rows)
    assert_close(ours, wanted)
    values = jax.jit(linear_token_sums, static_argnums=(5, 6))(
        x, weight, bias, targets, weights, vocab_axis, chunk_rows
    )
    assert_close(values, wanted[0])
    assert values["correct"] == wanted[0]["correct"]


@pytest.mark.parametrize("vocab_axis", [0, 1])
def test_the_definition_and_every_implementation(vocab_axis):
    args = problem(3, 7, 5, 31, vocab_axis)
    wanted = value_and_grads(full_token_sums, *args, vocab_axis)
    for name in ("reference", "cpu", "tpu", "gpu"):
        assert_close(value_and_grads(partial(linear_token_sums, implementation=name), *args, vocab_axis), wanted)


def test_the_definition_has_derivatives_of_every_kind():
    x, *rest = problem(1, 2, 3, 7)
    loss = lambda x: linear_token_sums(x, *rest, 0, implementation="reference")["loss"]  # noqa: E731
    full = lambda x: full_token_sums(x, *rest, 0)["loss"]  # noqa: E731
    assert_close((jax.hessian(loss)(x), jax.jvp(loss, (x,), (x,))), (jax.hessian(full)(x), jax.jvp(full, (x,), (x,))))


@pytest.mark.parametrize(("vocab", "vocab_axis", "size"), [(65, 1, 80), (80, 1, 80), (65, 0, 80), (4097, 0, 4112)])
def test_rows_of_logits_are_padded_to_whole_cache_lines(vocab, vocab_axis, size):
    x, weight, bias, targets, weights = problem(3, 11, 16, vocab, vocab_axis)
    gradient = jax.jit(jax.grad(lambda w: linear_token_sums(x, w, bias, targets, weights, vocab_axis)["loss"]))
    program = gradient.lower(weight).as_text()
    assert f"tensor<33x{size}xf32>" in program
    assert vocab == size or f"tensor<33x{vocab}xf32>" not in program


@pytest.mark.parametrize("target", [65, 79, 80])
def test_a_target_past_the_vocabulary_makes_the_loss_nan(target):
    x, weight, bias, targets, weights = problem(1, 3, 16, 65, share=0.0)
    targets[0, 1] = target
    sums, _ = value_and_grads(linear_token_sums, x, weight, bias, targets, weights + 1, 0)
    assert np.isnan(sums["loss"])


@jax.numpy_dtype_promotion("standard")  # logits are float32, and so is the bias
@pytest.mark.parametrize("vocab_axis", [0, 1])
def test_bfloat16_is_rounded_before_the_products_only(vocab_axis):
    x, weight, bias, targets, weights = problem(3, 11, 16, 301, vocab_axis)
    x = jnp.asarray(x, jnp.bfloat16)
    rounded = np.asarray(jnp.asarray(weight, jnp.bfloat16), np.float32)
    rest = bias, targets, weights, vocab_axis
    sums, (dx, dweight, dbias) = value_and_grads(full_token_sums, x.astype(jnp.float32), rounded, *rest)
    ours, (our_dx, our_dweight, our_dbias) = value_and_grads(linear_token_sums, x, weight, *rest, 8)
    assert (our_dx.dtype, our_dweight.dtype) == (jnp.bfloat16, jnp.float32)
    assert_close((ours, our_dweight, our_dbias), (sums, dweight, dbias))
    assert_close(our_dx, dx, 2**-7)
    half = jax.tree.map(lambda p: jnp.asarray(p, jnp.bfloat16), (weight, bias))
    shapes = jax.eval_shape(lambda *head: value_and_grads(linear_token_sums, x, *head, *rest[1:])[1], *half)
    assert {shape.dtype for shape in shapes} == {jnp.dtype(jnp.bfloat16)}


def test_equal_logits_count_as_argmax_says():
    x, _, _, _, weights = problem(4, 6, 8, 40, share=1.0)
    targets = np.zeros((4, 6), np.int32)
    targets[:, ::2] = 1
    sums = linear_token_sums(x, np.zeros((40, 8), np.float32), None, targets, weights, 0, 5)
    assert sums["correct"] == 12, "the first of equal logits is the prediction"


def test_extreme_logits_stay_finite():
    x, weight, bias, targets, weights = problem(2, 9, 8, 50)
    wanted = value_and_grads(full_token_sums, 100 * x, weight, bias, targets, weights, 0)
    ours = value_and_grads(linear_token_sums, 100 * x, weight, bias, targets, weights, 0, 4)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(ours))
    assert_close(ours, wanted)


def test_poison_reaches_the_loss():
    x, weight, bias, targets, weights = problem(2, 9, 8, 50)
    weights[1, 3] = np.nan
    sums, grads = value_and_grads(linear_token_sums, x, weight, bias, targets, weights, 0, 4)
    assert np.isnan(sums["loss"])
    assert np.isnan(grads[1]).all()


def test_what_does_not_count_is_not_computed():
    x, weight, bias, targets, weights = problem(2, 16, 8, 50, share=0.0)
    x[0, 5:], weights[0, :5] = np.nan, 1.0
    sums, grads = value_and_grads(linear_token_sums, x, weight, bias, targets, weights, 0, 5)
    assert np.isfinite(sums["loss"])
    assert all(np.isfinite(leaf).all() for leaf in grads)


def test_width_must_fit():
    x, weight, bias, targets, weights = problem(2, 3, 8, 50)
    with pytest.raises(ValueError, match=r"axis 0 of weight \(50, 8\) must be the width of x \(2, 3, 8\)"):
        linear_token_sums(x, weight, bias, targets, weights, 1)


def test_logits_never_exist_whole():
    x, weight, bias, targets, weights = problem(8, 32, 8, 4001)

    def memory(sums_of, *rest):
        step = jax.jit(jax.grad(lambda *args: sums_of(*args, targets, weights, 0, *rest)["loss"], argnums=(0, 1, 2)))
        return step.lower(x, weight, bias).compile().memory_analysis().temp_size_in_bytes

    logits = 4 * 8 * 32 * 4001
    assert memory(full_token_sums) > logits
    assert memory(linear_token_sums, 16) < logits / 4
