"""`linear_sums` a few rows at a time.

Written out, the logits of 8,192 tokens over 100,000 words are 3.3 GB, and their gradient as much again. Here they
exist for one chunk of rows only, and the gradients of head and features are formed while a chunk's logits are at hand,
so that the backward pass is but a scale (as in Hsu et al. 2024, "Liger Kernel: Efficient Triton Kernels for LLM
Training"). Tokens of weight 0 cost nothing: they are put last, and the loop ends before them.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fftnet_jax.ops.cross_entropy import Objective, contract, head_product


class How(NamedTuple):
    """What a chunked sum is made with.

    Attributes:
      chunk: rows of logits at a time.
      aligned: rows of logits are padded to a multiple of so many numbers.
    """

    objective: Objective
    vocab_axis: int
    chunk: int
    aligned: int
    precision: str | None


def chunked(
    objective,
    x_BND,
    weight,
    bias_V,
    rows,
    whole,
    weights_BN,
    vocab_axis,
    chunk_rows=None,
    precision=None,
    *,
    chunk: int,
    aligned: int = 1,
) -> dict:
    """`linear_sums` in chunks of at most `chunk` rows; see `How`."""
    how = How(objective, vocab_axis, chunk_rows or chunk, aligned, precision)
    return {**_sums(x_BND, weight, bias_V, rows, whole, weights_BN, how), "count": weights_BN.sum()}


@partial(jax.custom_vjp, nondiff_argnums=(6,))
def _sums(x_BND, weight, bias_V, rows, whole, weights_BN, how):
    chunks, used, _ = _chunks(how.chunk, weights_BN, x_BND, rows)
    vocab, weight, bias_V = _aligned(weight, bias_V, how)

    def add(index, total):
        weights_C, x_CD, rows_C = _chunk(chunks, index)
        logits_CV = head_product(x_CD, weight, bias_V, how.vocab_axis, how.precision)
        return jax.tree.map(jnp.add, total, how.objective.sums(logits_CV, vocab, rows_C, whole, weights_C))

    return jax.lax.fori_loop(0, used, add, _zero_sums(how.objective))


def _forward(x_BND, weight, bias_V, rows, whole, weights_BN, how):
    """The sums, and the gradients of `loss`."""
    chunks, used, restore = _chunks(how.chunk, weights_BN, x_BND, rows)
    given = [p for p in (weight, bias_V) if p is not None]
    vocab, weight, bias_V = _aligned(weight, bias_V, how)

    def add(index, carry):
        weights_C, x_CD, rows_C = _chunk(chunks, index)
        logits_CV = head_product(x_CD, weight, bias_V, how.vocab_axis, how.precision)
        sums, dlogits_CV, scale_C = how.objective.gradient(logits_CV, vocab, rows_C, whole, weights_C)
        dx_CD, *grads = _gradients(x_CD, weight, dlogits_CV, scale_C, how)
        dx_KCD = jax.lax.dynamic_update_index_in_dim(carry[1], dx_CD.astype(x_CD.dtype), index, 0)
        return jax.tree.map(jnp.add, carry[0], (sums, grads[: len(given)])), dx_KCD

    zeros = [jnp.zeros(p.shape) for p in (weight, bias_V) if p is not None]
    start = (_zero_sums(how.objective), zeros), jnp.zeros_like(chunks[1])
    (sums, grads), dx_KCD = jax.lax.fori_loop(0, used, add, start)
    grads = [g[tuple(map(slice, p.shape))].astype(p.dtype) for g, p in zip(grads, given, strict=True)]
    return sums, (restore(dx_KCD), *grads)


def _backward(how, grads, cotangents):
    dx_BND, dweight, *dbias = jax.tree.map(lambda g: (g * cotangents["loss"]).astype(g.dtype), grads)
    return dx_BND, dweight, dbias[0] if dbias else None, None, None, None


_sums.defvjp(_forward, _backward)


def _aligned(weight, bias_V, how):
    """The size of the vocabulary, and weight and bias with its last token repeated up to a size that suits products."""
    vocab = weight.shape[how.vocab_axis]
    more = -vocab % how.aligned
    weight = jnp.pad(weight, [(0, more if axis == how.vocab_axis else 0) for axis in (0, 1)], mode="edge")
    return vocab, weight, None if bias_V is None else jnp.pad(bias_V, (0, more), mode="edge")


def _gradients(x_CD, weight, dlogits_CV, scale_C, how):
    """Gradients of one chunk's loss for x, weight and bias, float32; that for the logits is scale · dlogits."""
    dx_CD = scale_C[:, None] * contract(dlogits_CV, weight.astype(x_CD.dtype), 1, how.vocab_axis, how.precision)
    scaled_CD = scale_C[:, None] * x_CD.astype(jnp.float32)
    if how.vocab_axis == 0:
        dweight = contract(dlogits_CV, scaled_CD, 0, 0, how.precision)
    else:  # The barrier keeps the transpose out of the product, for which XLA's CPU has a faster kernel then.
        dweight = contract(jax.lax.optimization_barrier(scaled_CD.T), dlogits_CV, 1, 0, how.precision)
    return dx_CD, dweight, contract(scale_C, dlogits_CV, 0, 0)


def _zero_sums(objective):
    return {name: jnp.zeros(()) for name in objective.names}


def _chunks(rows, weights_BN, *trees):
    """Rows of trees of (B, N, …) arrays in chunks (K, C, …) of at most `rows`, those of weight 0 last.

    Returns: the weights and the trees in chunks, the number of chunks with any weight, and the way back for one array.
    """
    total = weights_BN.size
    chunks = -(-total // rows)
    size = -(-total // chunks)
    skip_R = weights_BN.reshape(-1) == 0
    order_R = jnp.argsort(skip_R)  # stable
    padded_R = jnp.pad(order_R, (0, chunks * size - total), constant_values=total)

    def split(x):
        x_R = jnp.take(x.reshape(total, *x.shape[2:]), padded_R, axis=0, mode="fill", fill_value=0)
        return x_R.reshape(chunks, size, *x_R.shape[1:])

    def restore(x_KCD):
        return x_KCD.reshape(-1, x_KCD.shape[-1])[jnp.argsort(order_R)].reshape(*weights_BN.shape, -1)

    used = (total - skip_R.sum() + size - 1) // size
    return jax.tree.map(split, [weights_BN, *trees]), used, restore


def _chunk(chunks, index):
    return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, index, keepdims=False), chunks)
