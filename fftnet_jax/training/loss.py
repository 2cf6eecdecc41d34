"""Cross-entropy and accuracy as sums over real tokens, so that batches of any padding add up exactly."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from fftnet_jax.models import Encoder
from fftnet_jax.ops.cross_entropy import linear_sums, linear_token_sums

LARGE_VOCABULARY = 4096  # from here on `python -m benchmarks.loss` finds it faster not to write the logits out


def make_token_sums(model: Encoder, guide=None) -> Callable[..., dict]:
    """(params, batch of (B, N) arrays, options of `model.apply`) → `token_sums` of the model's predictions.

    From LARGE_VOCABULARY tokens on, the logits never exist whole. With a guide (`distillation.guide`) the loss is that
    of its objective, whose sums come with it, and `teacher` among the options stands for the guide's arrays.
    """

    def from_logits(params: dict, batch: dict, **options) -> dict:
        logits_BNV = model.apply({"params": params}, batch["inputs"], **options)
        return token_sums(logits_BNV, batch["targets"], batch["weights"])

    def from_features(params: dict, batch: dict, **options) -> dict:
        x_BND = model.apply({"params": params}, batch["inputs"], method="features", **options)
        weight, bias_V, vocab_axis = model.head_weights(params)
        return linear_token_sums(x_BND, weight, bias_V, batch["targets"], batch["weights"], vocab_axis)

    def guided(params: dict, batch: dict, teacher=None, **options) -> dict:
        x_BND = model.apply({"params": params}, batch["inputs"], method="features", **options)
        rows, whole = guide.read(teacher, batch)
        rows = {**rows, "targets": batch["targets"]}
        weight, bias_V, axis = model.head_weights(params)
        return linear_sums(guide.objective, x_BND, weight, bias_V, rows, whole, batch["weights"], axis)

    if guide:
        return guided
    return from_features if model.config.vocab_size >= LARGE_VOCABULARY else from_logits


def token_sums(logits_BNV: jax.Array, targets_BN: jax.Array, weights_BN: jax.Array) -> dict:
    """Sums over tokens of weight 1: `loss` in nats, `correct` predictions, `count`; float32 scalars."""
    losses_BN = optax.softmax_cross_entropy_with_integer_labels(logits_BNV.astype(jnp.float32), targets_BN)
    correct_BN = (logits_BNV.argmax(axis=-1) == targets_BN).astype(jnp.float32)
    return {
        "loss": (losses_BN * weights_BN).sum(),
        "correct": (correct_BN * weights_BN).sum(),
        "count": weights_BN.sum(),
    }
