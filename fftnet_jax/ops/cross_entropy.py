"""The loss of a large vocabulary: head and cross-entropy together, a few rows at a time.

Written out, the logits of 8,192 tokens over 100,000 words are 3.3 GB, and their gradient as much again. Here they
exist for one chunk of rows only, and the gradients of head and features are formed while a chunk's logits are at hand,
so that the backward pass is but a scale (as in Hsu et al. 2024, "Liger Kernel: Efficient Triton Kernels for LLM
Training"). Tokens of weight 0 cost nothing: they are put last, and the loop ends before them.
"""

import functools
from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec

# Rows of logits at a time. On a CPU fewer of them add to the weight's gradient too often, and more of them only cost
# memory (`python -m benchmarks.loss --only "rows at a time"`); an accelerator needs more to be busy.
CPU_ROWS, ACCELERATOR_ROWS = 512, 1024
# A row of logits is padded to a multiple of ALIGNED: where rows begin within a cache line, the CPU's products of them
# are slower. An embedding table's gradient is a product across rows, which is slow too where those lie a multiple of a
# large power of two apart, and share a few sets of the caches: an odd multiple of UNCROWDED is none, and from LONG on
# it costs little.
ALIGNED, UNCROWDED, LONG = 16, 64, 4096


class Objective(Protocol):
    """What is summed over rows of logits. Static under jit, so frozen and hashable.

    Only the first `vocab` columns are logits; those after repeat the last one, and their gradient must be 0.
    """

    names: tuple[str, ...]  # of the sums; one is "loss"

    def sums(self, logits_CV: jax.Array, vocab: int, rows: dict, whole: dict, weights_C: jax.Array) -> dict:
        """Weighted sums over the rows; `rows` holds arrays (C, …), `whole` what is the same for all rows."""

    def gradient(self, logits_CV: jax.Array, vocab: int, rows: dict, whole: dict, weights_C: jax.Array):
        """The sums, and (C, V) and (C,) whose product is the gradient of `loss` for the logits."""


@dataclass(frozen=True)
class CrossEntropy:
    """`loss` in nats and `correct` predictions of `rows["targets"]`."""

    names = ("loss", "correct")

    def sums(self, logits_CV, vocab, rows, whole, weights_C):
        return _softmax(logits_CV, vocab, rows["targets"], weights_C)[0]

    def gradient(self, logits_CV, vocab, rows, whole, weights_C):
        """(softmax - onehot) · weights. What multiplies whole rows is left to the thin factors of the products, and the
        one-hot targets change one number a row, so that nothing passes over (C, V) but the products."""
        targets_C = rows["targets"]
        sums, exp_CV, total_C = _softmax(logits_CV, vocab, targets_C, weights_C)
        rows_C = jnp.arange(len(targets_C))
        dlogits_CV = exp_CV.at[rows_C, targets_C].add(-total_C, indices_are_sorted=True, unique_indices=True)
        return sums, dlogits_CV, weights_C / total_C


def linear_token_sums(
    x_BND: jax.Array,
    weight: jax.Array,
    bias_V: jax.Array | None,
    targets_BN: jax.Array,
    weights_BN: jax.Array,
    vocab_axis: int,
    chunk_rows: int | None = None,
) -> dict:
    """`token_sums` of the logits x · weight + bias, which never exist whole; see `linear_sums`."""
    rows = {"targets": targets_BN}
    return linear_sums(CrossEntropy(), x_BND, weight, bias_V, rows, {}, weights_BN, vocab_axis, chunk_rows)


def linear_sums(
    objective: Objective,
    x_BND: jax.Array,
    weight: jax.Array,
    bias_V: jax.Array | None,
    rows: dict,
    whole: dict,
    weights_BN: jax.Array,
    vocab_axis: int,
    chunk_rows: int | None = None,
) -> dict:
    """Sums of `objective` over the logits x · weight + bias, which never exist whole, and `count`, that of the weights.

    The product takes `weight` in the dtype of x and adds up in float32; logits, softmax and the gradient of the logits
    are float32. Only `loss` has a gradient, for x, weight and bias, in reverse mode.

    Where the batch is split over devices, each goes through its own rows, and the gradients of weight and bias are
    added up across devices once, at the end.

    Args:
      x_BND: what the head reads.
      weight: (V, D) with `vocab_axis` 0, an embedding table, or (D, V) with `vocab_axis` 1, a dense kernel.
      bias_V: bias, or None.
      rows: arrays (B, N, …) that the objective reads, such as targets.
      whole: arrays that it reads for every row.
      weights_BN: 1 for tokens that count, 0 for the others.
      chunk_rows: rows whose logits exist at a time; None for what suits the backend.
    """
    if weight.shape[1 - vocab_axis] != x_BND.shape[-1]:
        raise ValueError(f"axis {1 - vocab_axis} of weight {weight.shape} must be the width of x {x_BND.shape}")
    size = chunk_rows or (CPU_ROWS if jax.default_backend() == "cpu" else ACCELERATOR_ROWS)
    sums = _sums(x_BND, weight, bias_V, rows, whole, weights_BN, objective, vocab_axis, size)
    return {**sums, "count": weights_BN.sum()}


@functools.partial(jax.custom_vjp, nondiff_argnums=(6, 7, 8))
def _sums(x_BND, weight, bias_V, rows, whole, weights_BN, objective, vocab_axis, size):
    def local(x_BND, weight, bias_V, rows, whole, weights_BN):
        chunks, used, _ = _chunks(size, weights_BN, x_BND, rows)
        vocab, weight, bias_V = _aligned(weight, bias_V, vocab_axis)

        def add(index, total):
            weights_C, x_CD, rows_C = _chunk(chunks, index)
            logits_CV = _logits(x_CD, weight, bias_V, vocab_axis)
            return jax.tree.map(jnp.add, total, objective.sums(logits_CV, vocab, rows_C, whole, weights_C))

        return jax.lax.fori_loop(0, used, add, _zero_sums(objective)), []

    results = "-> " + ", ".join("" for _ in objective.names)
    return _by_device(local, results, x_BND, weight, bias_V, rows, whole, weights_BN)[0]


def _forward(x_BND, weight, bias_V, rows, whole, weights_BN, objective, vocab_axis, size):
    """The sums, and the gradients of `loss`."""

    def local(x_BND, weight, bias_V, rows, whole, weights_BN):
        chunks, used, restore = _chunks(size, weights_BN, x_BND, rows)
        shapes = [p.shape for p in (weight, bias_V) if p is not None]
        vocab, weight, bias_V = _aligned(weight, bias_V, vocab_axis)

        def add(index, carry):
            weights_C, x_CD, rows_C = _chunk(chunks, index)
            logits_CV = _logits(x_CD, weight, bias_V, vocab_axis)
            sums, dlogits_CV, scale_C = objective.gradient(logits_CV, vocab, rows_C, whole, weights_C)
            dx_CD, *grads = _gradients(x_CD, weight, dlogits_CV, scale_C, vocab_axis)
            sums_and_grads = sums, grads[:1] if bias_V is None else grads
            dx_KCD = jax.lax.dynamic_update_index_in_dim(carry[1], dx_CD.astype(x_CD.dtype), index, 0)
            return jax.tree.map(jnp.add, carry[0], sums_and_grads), dx_KCD

        zeros = [jnp.zeros(p.shape) for p in (weight, bias_V) if p is not None]
        start = (_zero_sums(objective), zeros), jnp.zeros_like(chunks[1])
        (sums, grads), dx_KCD = jax.lax.fori_loop(0, used, add, start)
        grads = [g[tuple(map(slice, shape))] for g, shape in zip(grads, shapes, strict=True)]
        return (sums, grads), [restore(dx_KCD)]

    results = "-> " + "".join(", " for _ in objective.names) + ("i j, k, b n d" if bias_V is not None else "i j, b n d")
    (sums, grads), (dx_BND,) = _by_device(local, results, x_BND, weight, bias_V, rows, whole, weights_BN)
    dbias_V = None if bias_V is None else grads[1].astype(bias_V.dtype)
    return sums, (dx_BND, grads[0].astype(weight.dtype), dbias_V)


def _backward(objective, vocab_axis, size, grads, cotangents):
    return *jax.tree.map(lambda g: (g * cotangents["loss"]).astype(g.dtype), grads), None, None, None


_sums.defvjp(_forward, _backward)


def _logits(x_CD, weight, bias_V, vocab_axis):
    logits_CV = contract(x_CD, weight.astype(x_CD.dtype), 1, 1 - vocab_axis)
    return logits_CV if bias_V is None else logits_CV + bias_V[None]


def _aligned(weight, bias_V, vocab_axis):
    """The size of the vocabulary, and weight and bias with its last token repeated up to a size that suits products."""
    vocab = weight.shape[vocab_axis]
    more = -vocab % ALIGNED
    if vocab_axis == 0 and vocab >= LONG and jax.default_backend() == "cpu":
        more = (UNCROWDED - vocab) % (2 * UNCROWDED)
    pads = [(0, more if axis == vocab_axis else 0) for axis in (0, 1)]
    weight = jnp.pad(weight, pads, mode="edge")
    return vocab, weight, None if bias_V is None else jnp.pad(bias_V, (0, more), mode="edge")


def contract(a, b, axis_a, axis_b):
    """Product over one axis of each, in the wider of the two dtypes, added up in float32."""
    dtype = jnp.promote_types(a.dtype, b.dtype)
    axes = (((axis_a,), (axis_b,)), ((), ()))
    return jax.lax.dot_general(a.astype(dtype), b.astype(dtype), axes, preferred_element_type=jnp.float32)


def _softmax(logits_CV, vocab, targets_C, weights_C):
    """One chunk's sums, and its softmax as numerators (C, V) and denominators (C,)."""
    target_C = jnp.take_along_axis(logits_CV, targets_C[:, None], axis=1)[:, 0]
    target_C = jnp.where(targets_C < vocab, target_C, jnp.nan)  # as past the end, where no row is padded
    max_C = logits_CV.max(axis=1)
    is_token_V = jnp.arange(logits_CV.shape[1]) < vocab
    exp_CV = jnp.where(is_token_V[None], jnp.exp(logits_CV - max_C[:, None]), 0.0)
    total_C = exp_CV.sum(axis=1)
    losses_C = jnp.log(total_C) + (max_C - target_C)
    # Not `logits_CV.argmax`: XLA would make one slow pass of it and the maximum, also where nobody asks for `correct`.
    best_C = jnp.minimum((logits_CV == max_C[:, None]).argmax(axis=1), vocab - 1)  # those after repeat the last one
    correct_C = best_C == targets_C
    return {"loss": (losses_C * weights_C).sum(), "correct": (correct_C * weights_C).sum()}, exp_CV, total_C


def _gradients(x_CD, weight, dlogits_CV, scale_C, vocab_axis):
    """Gradients of one chunk's loss for x, weight and bias, float32; that for the logits is scale · dlogits."""
    dx_CD = scale_C[:, None] * contract(dlogits_CV, weight.astype(x_CD.dtype), 1, vocab_axis)
    scaled_CD = scale_C[:, None] * x_CD.astype(jnp.float32)
    if vocab_axis == 0:
        dweight = contract(dlogits_CV, scaled_CD, 0, 0)
    else:  # The barrier keeps the transpose out of the product, for which XLA's CPU has a faster kernel then.
        dweight = contract(jax.lax.optimization_barrier(scaled_CD.T), dlogits_CV, 1, 0)
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


def _by_device(local, results, *operands):
    """`local` of (x, weight, bias, rows, whole, weights), where each device does its own rows of the batch.

    It gives (sums, [arrays of rows]). XLA's partitioner would add up the gradients across devices once a chunk;
    `results` tells it the axes of what comes out.
    """
    by_row = (True, False, False, True, False, True)

    def placed(trees, mesh, axis, where):
        place = {True: NamedSharding(mesh, PartitionSpec(axis)), False: NamedSharding(mesh, PartitionSpec())}
        return tuple(jax.tree.map(lambda _, p=place[r]: p, tree) for r, tree in zip(where, trees, strict=True))

    def partition(mesh, arguments, shapes):
        axis = arguments[0].sharding.spec[0]

        def on_device(*args):
            sums, rows = local(*args)
            return jax.tree.map(lambda x: jax.lax.psum(x, axis), sums) if axis else sums, rows

        return mesh, on_device, placed(shapes, mesh, axis, (False, True)), placed(arguments, mesh, axis, by_row)

    names = [["b", "n", "d"], ["i", "j"], ["k"]]  # of the axes of x, weight and bias
    rest = [(r, leaf) for r, tree in zip(by_row[3:], operands[3:], strict=True) for leaf in jax.tree.leaves(tree)]
    for number, (rows, leaf) in enumerate(rest):
        own = [f"{letter}{number}" for letter in "pqrs"[: leaf.ndim]]
        names.append(["b", "n", *own[2:]] if rows else own)
    if operands[2] is None:
        del names[2]
    whole = tuple(name for name in dict.fromkeys(name for axes in names for name in axes) if name != "b")
    apply = custom_partitioning(local)
    rule = f"{', '.join(' '.join(axes) for axes in names)} {results}"
    apply.def_partition(partition, sharding_rule=rule, need_replication_factors=whole)
    return apply(*operands)
