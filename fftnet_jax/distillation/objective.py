"""The loss of a student that learns from a teacher: cross-entropy and Kullback-Leibler divergence, row by row.

alpha · CE + (1 - alpha) · T² · KL(teacher at T ‖ student at T), after Hinton et al. 2015 (arXiv 1503.02531), section 2;
alpha is on the cross-entropy. At temperature T a distribution is softmax(logits / T).
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from fftnet_jax.ops.cross_entropy import contract


def kl_full(logits_RV: jax.Array, teacher_RV: jax.Array, temperature: float) -> jax.Array:
    """KL(teacher ‖ student) at a temperature, in nats: two (R, V) arrays of logits → (R,).

    A teacher's logit may be -inf, a token that it can't say.
    """
    student_RV = jax.nn.log_softmax(logits_RV / temperature)
    teacher_RV = jax.nn.log_softmax(teacher_RV / temperature)
    possible_RV = teacher_RV > -jnp.inf
    gap_RV = jnp.where(possible_RV, teacher_RV, 0.0) - jnp.where(possible_RV, student_RV, 0.0)
    return (jnp.exp(teacher_RV) * gap_RV).sum(axis=1)


def kl_top_k(
    logits_RV: jax.Array, ids_RK: jax.Array, logps_RK: jax.Array, tail_R: jax.Array, temperature: float
) -> jax.Array:
    """KL at a temperature over the teacher's top k tokens and one bucket for all others: → (R,).

    By the log-sum inequality it is at most `kl_full`; it reaches it where k is V, or where teacher and student agree on
    the shares within the bucket.

    Args:
      ids_RK: the teacher's likeliest tokens.
      logps_RK: their log-probabilities at the temperature.
      tail_R: log of the mass of all others at the temperature; -inf for none.
    """
    scaled_RV = logits_RV / temperature
    top_RK = jnp.take_along_axis(scaled_RV, ids_RK, axis=1)
    rows_R = jnp.arange(len(ids_RK))[:, None]
    rest_RV = scaled_RV.at[rows_R, ids_RK].set(-jnp.inf)  # its sum is not a difference of two near 1
    total_R = jax.nn.logsumexp(scaled_RV, axis=1)
    has_tail_R = (tail_R > -jnp.inf) & (ids_RK.shape[1] < logits_RV.shape[1])
    rest_RV = jnp.where(has_tail_R[:, None], rest_RV, 0.0)  # log-sum-exp of nothing has no gradient
    student_tail_R = jax.nn.logsumexp(rest_RV, axis=1) - total_R
    held_R = (jnp.exp(logps_RK) * (logps_RK - (top_RK - total_R[:, None]))).sum(axis=1)
    safe_tail_R = jnp.where(has_tail_R, tail_R, 0.0)
    return held_R + jnp.where(has_tail_R, jnp.exp(safe_tail_R) * (safe_tail_R - student_tail_R), 0.0)


def fold(logits_RV: jax.Array, kept_K: jax.Array) -> jax.Array:
    """Logits over a reduced vocabulary: (R, V) → (R, K + 1), the tokens `kept_K` and one more for all others.

    The last has the others' whole mass, so that softmax gives the distribution with the others added up.
    """
    is_kept_V = jnp.zeros(logits_RV.shape[1], bool).at[kept_K].set(True)
    mass_R = jax.nn.logsumexp(jnp.where(is_kept_V, -jnp.inf, logits_RV), axis=1)
    return jnp.concatenate([logits_RV[:, kept_K], mass_R[:, None]], axis=1)


@dataclass(frozen=True)
class Distillation:
    """The objective of `ops.linear_sums` for a student.

    What it knows of the teacher is in `rows`, one of:
      - "teacher_features" (C, D'), with "head" (weight as in `vocab_axis` of the teacher) and, for a reduced
        vocabulary, "kept" in `whole`;
      - "teacher_logits" (C, V);
      - "teacher_ids", "teacher_logps" (C, k) and "teacher_tail" (C,), at this objective's temperature.
    """

    alpha: float
    temperature: float
    teacher_vocab_axis: int = 0

    names = ("loss", "correct", "cross_entropy", "kl")

    def sums(self, logits_CV, vocab, rows, whole, weights_C):
        return self._sums(logits_CV[:, :vocab], self._teacher(rows, whole), rows["targets"], weights_C)

    def gradient(self, logits_CV, vocab, rows, whole, weights_C):
        teacher = self._teacher(rows, whole)

        def loss(logits_CV):
            sums = self._sums(logits_CV[:, :vocab], teacher, rows["targets"], weights_C)
            return sums["loss"], sums

        dlogits_CV, sums = jax.grad(loss, has_aux=True)(logits_CV)
        return sums, dlogits_CV, jnp.ones_like(weights_C)

    def _sums(self, logits_CV, teacher, targets_C, weights_C):
        target_C = jnp.take_along_axis(logits_CV, targets_C[:, None], axis=1)[:, 0]
        losses_C = jax.nn.logsumexp(logits_CV, axis=1) - target_C
        kl = kl_full if len(teacher) == 1 else kl_top_k
        kl_C = kl(logits_CV, *teacher, self.temperature)
        cross_entropy, divergence = (losses_C * weights_C).sum(), (kl_C * weights_C).sum()
        correct_C = (logits_CV == logits_CV.max(axis=1, keepdims=True)).argmax(axis=1) == targets_C
        return {
            "loss": self.alpha * cross_entropy + (1 - self.alpha) * self.temperature**2 * divergence,
            "correct": (correct_C * weights_C).sum(),
            "cross_entropy": cross_entropy,
            "kl": divergence,
        }

    def _teacher(self, rows, whole) -> tuple[jax.Array, ...]:
        """(logits,) or (ids, log-probabilities, tail)."""
        if "teacher_ids" in rows:
            return rows["teacher_ids"], rows["teacher_logps"], rows["teacher_tail"]
        if "teacher_logits" in rows:
            return (rows["teacher_logits"],)
        return (teacher_logits(rows["teacher_features"], whole, self.teacher_vocab_axis),)


def teacher_logits(features_CD: jax.Array, whole: dict, vocab_axis: int) -> jax.Array:
    """The teacher's logits (C, V), float32; over a reduced vocabulary where `whole` has "kept"."""
    logits_CV = contract(features_CD, whole["head"], 1, 1 - vocab_axis)
    return fold(logits_CV, whole["kept"]) if "kept" in whole else logits_CV
