"""Cross-entropy and accuracy as sums over real tokens, so that batches of any padding add up exactly."""

import jax
import jax.numpy as jnp
import optax

from fftnet_jax.models import Encoder
from fftnet_jax.ops import CrossEntropy, linear_sums

LARGE_VOCABULARY = 4096  # from here on `python -m benchmarks.loss` finds it faster not to write the logits out


def token_sums(logits_BNV: jax.Array, targets_BN: jax.Array, weights_BN: jax.Array) -> dict:
    """Sums over tokens of weight 1: `loss` in nats, `correct` predictions, `count`; float32 scalars."""
    losses_BN = optax.softmax_cross_entropy_with_integer_labels(logits_BNV.astype(jnp.float32), targets_BN)
    correct_BN = (logits_BNV.argmax(axis=-1) == targets_BN).astype(jnp.float32)
    return {
        "loss": (losses_BN * weights_BN).sum(),
        "correct": (correct_BN * weights_BN).sum(),
        "count": weights_BN.sum(),
    }


def model_sums(model: Encoder, params: dict, batch: dict, **options) -> dict:
    """`token_sums` of a model's predictions; from LARGE_VOCABULARY tokens on, the logits never exist whole.

    Args:
      batch: `inputs`, `targets` and `weights`, (B, N).
      options: of `model.apply`.
    """
    if model.config.vocab_size >= LARGE_VOCABULARY:
        rows = {"targets": batch["targets"]}
        return objective_sums(CrossEntropy(), model, params, batch, rows, {}, **options)
    logits_BNV = model.apply({"params": params}, batch["inputs"], **options)
    return token_sums(logits_BNV, batch["targets"], batch["weights"])


def objective_sums(objective, model: Encoder, params: dict, batch: dict, rows: dict, whole: dict, **options) -> dict:
    """Sums of an objective over a model's predictions; see `ops.linear_sums`."""
    x_BND = model.apply({"params": params}, batch["inputs"], method="features", **options)
    weight, bias_V, axis = model.head_weights(params)
    how = {"precision": model.config.precision, "implementation": model.config.implementation}
    return linear_sums(objective, x_BND, weight, bias_V, rows, whole, batch["weights"], axis, **how)
