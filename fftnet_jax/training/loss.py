"""Cross-entropy and accuracy as sums over real tokens, so that batches of any padding add up exactly."""

import jax
import jax.numpy as jnp
import optax


def token_sums(logits_BNV: jax.Array, targets_BN: jax.Array, weights_BN: jax.Array) -> dict:
    """Sums over tokens of weight 1: `loss` in nats, `correct` predictions, `count`; float32 scalars."""
    losses_BN = optax.softmax_cross_entropy_with_integer_labels(logits_BNV.astype(jnp.float32), targets_BN)
    correct_BN = (logits_BNV.argmax(axis=-1) == targets_BN).astype(jnp.float32)
    return {
        "loss": (losses_BN * weights_BN).sum(),
        "correct": (correct_BN * weights_BN).sum(),
        "count": weights_BN.sum(),
    }
