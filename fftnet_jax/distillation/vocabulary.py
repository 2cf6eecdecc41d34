"""A teacher over the tokens of its student: the same ones, the first of them, or a reduced vocabulary."""

import jax
import jax.numpy as jnp
import numpy as np

from fftnet_jax.data import Dataset
from fftnet_jax.errors import ConfigError
from fftnet_jax.models.llama import Teacher
from fftnet_jax.tokenizers import ReducedTokenizer, Tokenizer

PROBE = "Question: Ann has 12 apples, and gives 7 away. How many are left?\nAnswer: 12 - 7 = <<12-7=5>>5\n#### 5"


def kept_ids(model: Teacher, tokenizer: Tokenizer | None, dataset: Dataset) -> np.ndarray | None:
    """The teacher's ids (K,) of a reduced vocabulary, None where the student has the teacher's own.

    Raises:
      ConfigError: student and teacher don't read text alike.
    """
    ours, kept = dataset.tokenizer, None
    if isinstance(ours, ReducedTokenizer):
        ours, kept = ours.base, np.asarray(ours.kept, np.int32)
    size = model.config.vocab_size
    if ours is None or ours.vocab_size > size or (tokenizer and tokenizer.encode(PROBE) != ours.encode(PROBE)):
        name = ours.name if ours else "none"
        raise ConfigError(f"data.tokenizer must be the teacher's, with at most its {size} tokens, got {name!r}")
    return kept


def teacher_features(model: Teacher, params: dict, ids_BN: jax.Array, kept_K: jax.Array | None) -> jax.Array:
    """What the teacher's head reads, (B, N, D'), for the student's ids (B, N)."""
    if kept_K is not None:  # the student's last id, for all others, is in no input
        ids_BN = kept_K[jnp.minimum(ids_BN, len(kept_K) - 1)]
    return model.apply({"params": params}, ids_BN, method="features")


def teacher_head(model: Teacher, params: dict, vocab_size: int, kept_K: jax.Array | None) -> dict:
    """`whole` of `objective.teacher_logits`, for logits over the student's `vocab_size` tokens.

    Ids beyond the tokenizer's, which pad a teacher's table, are left out: nothing is written with them.
    """
    head, _, axis = model.head_weights(params)
    if kept_K is not None:
        return {"head": head, "kept": kept_K}
    return {"head": jax.lax.slice_in_dim(head, 0, vocab_size, axis=axis)}
