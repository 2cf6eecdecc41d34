"""The loss of a large vocabulary: head and cross-entropy together, a few rows at a time.

Written out, the logits of 8,192 tokens over 100,000 words are 3.3 GB, and their gradient as much again. Here they
exist for one chunk of rows only, and the gradients of head and features are formed while a chunk's logits are at hand,
so that the backward pass is but a scale (as in Hsu et al. 2024, "Liger Kernel: Efficient Triton Kernels for LLM
Training"). Tokens of weight 0 cost nothing: they are put last, and the loop ends before them.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec

# Rows of logits at a time. On a CPU fewer of them add to the weight's gradient too often, and more of them only cost
# memory (`python -m benchmarks.loss --only rows`); an accelerator needs more to be busy.
CPU_ROWS, ACCELERATOR_ROWS = 256, 1024


def linear_token_sums(
    x_BND: jax.Array,
    weight: jax.Array,
    bias_V: jax.Array | None,
    targets_BN: jax.Array,
    weights_BN: jax.Array,
    vocab_axis: int,
    chunk_rows: int | None = None,
) -> dict:
    """`token_sums` of the logits x · weight + bias, which never exist whole.

    The product takes `weight` in the dtype of x and adds up in float32; logits, softmax and the gradient of the logits
    are float32. Only `loss` has a gradient, for x, weight and bias, in reverse mode.

    Where the batch is split over devices, each goes through its own rows, and the gradients of weight and bias are
    added up across devices once, at the end.

    Args:
      x_BND: what the head reads.
      weight: (V, D) with `vocab_axis` 0, an embedding table, or (D, V) with `vocab_axis` 1, a dense kernel.
      bias_V: bias, or None.
      targets_BN: token ids.
      weights_BN: 1 for tokens that count, 0 for the others.
      chunk_rows: rows whose logits exist at a time; None for what suits the backend.
    """
    if weight.shape[1 - vocab_axis] != x_BND.shape[-1]:
        raise ValueError(f"axis {1 - vocab_axis} of weight {weight.shape} must be the width of x {x_BND.shape}")
    rows = chunk_rows or (CPU_ROWS if jax.default_backend() == "cpu" else ACCELERATOR_ROWS)
    sums = _sums(x_BND, weight, bias_V, targets_BN, weights_BN, vocab_axis, rows)
    return {**sums, "count": weights_BN.sum()}


@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def _sums(x_BND, weight, bias_V, targets_BN, weights_BN, vocab_axis, rows):
    def local(x_BND, weight, bias_V, targets_BN, weights_BN):
        chunks, used, _ = _chunks(rows, weights_BN, x_BND, targets_BN)

        def add(index, total):
            weights_C, x_CD, targets_C = _chunk(chunks, index)
            logits_CV = _logits(x_CD, weight, bias_V, vocab_axis)
            return jax.tree.map(jnp.add, total, _softmax(logits_CV, targets_C, weights_C)[0])

        return jax.lax.fori_loop(0, used, add, _zero_sums()), []

    return _by_device(local, "-> ,", x_BND, weight, bias_V, targets_BN, weights_BN)[0]


def _forward(x_BND, weight, bias_V, targets_BN, weights_BN, vocab_axis, rows):
    """The sums, and the gradients of `loss`."""

    def local(x_BND, weight, bias_V, targets_BN, weights_BN):
        chunks, used, restore = _chunks(rows, weights_BN, x_BND, targets_BN)

        def add(index, carry):
            weights_C, x_CD, targets_C = _chunk(chunks, index)
            logits_CV = _logits(x_CD, weight, bias_V, vocab_axis)
            sums, exp_CV, total_C = _softmax(logits_CV, targets_C, weights_C)
            dx_CD, *grads = _gradients(x_CD, weight, exp_CV, total_C, targets_C, weights_C, vocab_axis)
            sums_and_grads = sums, grads[:1] if bias_V is None else grads
            dx_KCD = jax.lax.dynamic_update_index_in_dim(carry[1], dx_CD.astype(x_CD.dtype), index, 0)
            return jax.tree.map(jnp.add, carry[0], sums_and_grads), dx_KCD

        zeros = [jnp.zeros(p.shape) for p in (weight, bias_V) if p is not None]
        total, dx_KCD = jax.lax.fori_loop(0, used, add, ((_zero_sums(), zeros), jnp.zeros_like(chunks[1])))
        return total, [restore(dx_KCD)]

    rule = "-> , , i j, k, b n d" if bias_V is not None else "-> , , i j, b n d"
    (sums, grads), (dx_BND,) = _by_device(local, rule, x_BND, weight, bias_V, targets_BN, weights_BN)
    dbias_V = None if bias_V is None else grads[1].astype(bias_V.dtype)
    return sums, (dx_BND, grads[0].astype(weight.dtype), dbias_V)


def _backward(vocab_axis, rows, grads, cotangents):
    return *jax.tree.map(lambda g: (g * cotangents["loss"]).astype(g.dtype), grads), None, None


_sums.defvjp(_forward, _backward)


def _logits(x_CD, weight, bias_V, vocab_axis):
    logits_CV = _contract(x_CD, weight.astype(x_CD.dtype), 1, 1 - vocab_axis)
    return logits_CV if bias_V is None else logits_CV + bias_V[None]


def _contract(a, b, axis_a, axis_b):
    """Product over one axis of each, in the wider of the two dtypes, added up in float32."""
    dtype = jnp.promote_types(a.dtype, b.dtype)
    axes = (((axis_a,), (axis_b,)), ((), ()))
    return jax.lax.dot_general(a.astype(dtype), b.astype(dtype), axes, preferred_element_type=jnp.float32)


def _softmax(logits_CV, targets_C, weights_C):
    """One chunk's sums, and its softmax as numerators (C, V) and denominators (C,)."""
    target_C = jnp.take_along_axis(logits_CV, targets_C[:, None], axis=1)[:, 0]
    max_C = logits_CV.max(axis=1)
    exp_CV = jnp.exp(logits_CV - max_C[:, None])
    total_C = exp_CV.sum(axis=1)
    losses_C = jnp.log(total_C) + (max_C - target_C)
    # Not `logits_CV.argmax`: XLA would make one slow pass of it and the maximum, also where nobody asks for `correct`.
    correct_C = (logits_CV == max_C[:, None]).argmax(axis=1) == targets_C
    return {"loss": (losses_C * weights_C).sum(), "correct": (correct_C * weights_C).sum()}, exp_CV, total_C


def _gradients(x_CD, weight, exp_CV, total_C, targets_C, weights_C, vocab_axis):
    """Gradients of one chunk's loss for x, weight and bias, float32.

    The logits' gradient is (softmax - onehot) · weights. What multiplies whole rows is left to the thin factors of the
    products, and the one-hot targets change one number a row, so that nothing passes over (C, V) but the products.
    """
    scale_C = weights_C / total_C
    rows_C = jnp.arange(len(targets_C))
    dlogits_CV = exp_CV.at[rows_C, targets_C].add(-total_C, indices_are_sorted=True, unique_indices=True)
    dx_CD = scale_C[:, None] * _contract(dlogits_CV, weight.astype(x_CD.dtype), 1, vocab_axis)
    scaled_CD = scale_C[:, None] * x_CD.astype(jnp.float32)
    if vocab_axis == 0:
        dweight = _contract(dlogits_CV, scaled_CD, 0, 0)
    else:  # The barrier keeps the transpose out of the product, for which XLA's CPU has a faster kernel then.
        dweight = _contract(jax.lax.optimization_barrier(scaled_CD.T), dlogits_CV, 1, 0)
    return dx_CD, dweight, _contract(scale_C, dlogits_CV, 0, 0)


def _zero_sums():
    return {"loss": jnp.zeros(()), "correct": jnp.zeros(())}


def _chunks(rows, weights_BN, *arrays):
    """Rows of (B, N, …) arrays in chunks (K, C, …) of at most `rows`, those of weight 0 last.

    Returns: the weights and the arrays in chunks, the number of chunks with any weight, and the way back for one array.
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
    return [split(x) for x in (weights_BN, *arrays)], used, restore


def _chunk(chunks, index):
    return [jax.lax.dynamic_index_in_dim(x, index, keepdims=False) for x in chunks]


def _by_device(local, results, x_BND, weight, bias_V, targets_BN, weights_BN):
    """`local` of all these, (sums, [arrays of rows]), where each device does its own rows of the batch.

    XLA's partitioner would add up the gradients across devices once a chunk; `results` tells it the axes of what comes
    out.
    """

    def partition(mesh, arguments, shapes):
        axis = arguments[0].sharding.spec[0]
        rows, whole = NamedSharding(mesh, PartitionSpec(axis)), NamedSharding(mesh, PartitionSpec())

        def on_device(*args):
            sums, by_row = local(*args)
            return jax.tree.map(lambda x: jax.lax.psum(x, axis), sums) if axis else sums, by_row

        placed = jax.tree.map(lambda _: whole, shapes[0]), jax.tree.map(lambda _: rows, shapes[1])
        bias = None if arguments[2] is None else whole
        return mesh, on_device, placed, (rows, whole, bias, rows, rows)

    operands = "b n d, i j, k, b n, b n" if bias_V is not None else "b n d, i j, b n, b n"
    whole = ("n", "d", "i", "j") if bias_V is None else ("n", "d", "i", "j", "k")
    apply = custom_partitioning(local)
    apply.def_partition(partition, sharding_rule=f"{operands} {results}", need_replication_factors=whole)
    return apply(x_BND, weight, bias_V, targets_BN, weights_BN)
