"""Head and loss together: sums over rows of logits, such as the cross-entropy of a large vocabulary."""

from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp

from fftnet_jax.ops.select import operation


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
        return softmax(logits_CV, vocab, rows["targets"], weights_C)[0]

    def gradient(self, logits_CV, vocab, rows, whole, weights_C):
        """(softmax - onehot) · weights. What multiplies whole rows is left to the thin factors of the products, and the
        one-hot targets change one number a row, so that nothing passes over (C, V) but the products."""
        targets_C = rows["targets"]
        sums, exp_CV, total_C = softmax(logits_CV, vocab, targets_C, weights_C)
        rows_C = jnp.arange(len(targets_C))
        dlogits_CV = exp_CV.at[rows_C, targets_C].add(-total_C, indices_are_sorted=True, unique_indices=True)
        return sums, dlogits_CV, weights_C / total_C


def _check(objective, x_BND, weight, bias_V, rows, whole, weights_BN, vocab_axis, chunk_rows=None, precision=None):
    if weight.shape[1 - vocab_axis] != x_BND.shape[-1]:
        raise ValueError(f"axis {1 - vocab_axis} of weight {weight.shape} must be the width of x {x_BND.shape}")


@operation(check=_check)
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
    precision=None,
) -> dict:
    """Sums of `objective` over the logits x · weight + bias, and `count`, that of the weights.

    The product takes `weight` in the dtype of x and adds up in float32; logits, softmax and the gradient of the logits
    are float32. In the definition all logits exist at once; in the other implementations a few rows of them do, and
    only `loss` has a gradient, for x, weight and bias, in reverse mode.

    Args:
      x_BND: what the head reads.
      weight: (V, D) with `vocab_axis` 0, an embedding table, or (D, V) with `vocab_axis` 1, a dense kernel.
      bias_V: bias, or None.
      rows: arrays (B, N, …) that the objective reads, such as targets.
      whole: arrays that it reads for every row.
      weights_BN: 1 for tokens that count, 0 for the others.
      chunk_rows: rows whose logits exist at a time; None for what suits the implementation.
      precision: of the product of x and the weight, as JAX names it.
    """
    x_RD, rows, weights_R = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), (x_BND, rows, weights_BN))
    logits_RV = head_product(x_RD, weight, bias_V, vocab_axis, precision)
    sums = objective.sums(logits_RV, logits_RV.shape[1], rows, whole, weights_R)
    return {**sums, "count": weights_BN.sum()}


def linear_token_sums(
    x_BND: jax.Array,
    weight: jax.Array,
    bias_V: jax.Array | None,
    targets_BN: jax.Array,
    weights_BN: jax.Array,
    vocab_axis: int,
    chunk_rows: int | None = None,
    precision=None,
    implementation: str = "auto",
) -> dict:
    """`token_sums` of the logits x · weight + bias, which never exist whole; see `linear_sums`."""
    rows = {"targets": targets_BN}
    return linear_sums(
        CrossEntropy(),
        x_BND,
        weight,
        bias_V,
        rows,
        {},
        weights_BN,
        vocab_axis,
        chunk_rows,
        precision,
        implementation=implementation,
    )


def head_product(x_CD, weight, bias_V, vocab_axis, precision=None):
    """Logits (C, V), float32."""
    logits_CV = contract(x_CD, weight.astype(x_CD.dtype), 1, 1 - vocab_axis, precision)
    return logits_CV if bias_V is None else logits_CV + bias_V[None]


def contract(a, b, axis_a, axis_b, precision=None):
    """Product over one axis of each, in the wider of the two dtypes, added up in float32."""
    dtype = jnp.promote_types(a.dtype, b.dtype)
    axes = (((axis_a,), (axis_b,)), ((), ()))
    return jax.lax.dot_general(a.astype(dtype), b.astype(dtype), axes, precision, preferred_element_type=jnp.float32)


def softmax(logits_CV, vocab, targets_C, weights_C):
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
    correct_C = (best_C == targets_C).astype(jnp.float32)
    return {"loss": (losses_C * weights_C).sum(), "correct": (correct_C * weights_C).sum()}, exp_CV, total_C
