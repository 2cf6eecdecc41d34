"""Continuing token sequences with a decoder, through its cache."""

from collections.abc import Iterator
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from fftnet_jax.config import ConfigError
from fftnet_jax.generation.sampling import Sampling, sample
from fftnet_jax.models import Decoder

SAMPLING = Sampling()


def generate(
    model: Decoder, params: dict, prompt_BN, max_new_tokens: int, how: Sampling = SAMPLING, seed: int = 0
) -> Iterator[np.ndarray]:
    """Yields one array (B,) of new token ids at a time, `max_new_tokens` of them.

    The model sees at most `model.config.max_length` tokens. When they are used up, the later half of
    them is read again and the rest forgotten, so text of any length can be written.

    Args:
      prompt_BN: token ids (B, N), N at least 1; of a longer one than fits, the end is used.

    Raises:
      ConfigError: the prompt is empty, or `max_new_tokens` is negative.
    """
    context_BN = np.asarray(prompt_BN, np.int32)
    if context_BN.ndim != 2 or 0 in context_BN.shape:
        raise ConfigError(f"the prompt must hold at least one token, got ids of shape {context_BN.shape}")
    vocab = model.config.vocab_size
    if context_BN.min() < 0 or context_BN.max() >= vocab:
        raise ConfigError(f"token ids must be in 0..{vocab - 1}, got {context_BN.min()}..{context_BN.max()}")
    if max_new_tokens < 0:
        raise ConfigError(f"max_new_tokens must be at least 0, got {max_new_tokens}")
    prefill, step = _compiled(model, how)
    key, limit = jax.random.key(seed), model.config.max_length
    kept = max(1, limit // 2)
    context_BN, cache = context_BN[:, -limit:], None
    for index in range(max_new_tokens):
        token_key = jax.random.fold_in(key, index)
        if cache is None or context_BN.shape[1] > limit:
            context_BN = context_BN if cache is None else context_BN[:, -kept:]
            cache = model.init_cache(len(context_BN), limit)
            token_B, cache = prefill(params, context_BN, cache, token_key)
        else:
            token_B, cache = step(params, token_B, cache, token_key)
        context_BN = np.concatenate([context_BN, np.asarray(token_B)[:, None]], axis=1)
        yield context_BN[:, -1]


@lru_cache(maxsize=8)
def _compiled(model: Decoder, how: Sampling):
    """Jitted prefill and step with sampling inside; one compilation per model, setting and shape."""

    @jax.jit
    def prefill(params, ids_BN, cache, key):
        logits_BNV, cache = model.apply({"params": params}, ids_BN, cache, method="prefill")
        return sample(logits_BNV[:, -1], key, how).astype(jnp.int32), cache

    @jax.jit
    def step(params, ids_B, cache, key):
        logits_BV, cache = model.apply({"params": params}, ids_B, cache, method="step")
        return sample(logits_BV, key, how).astype(jnp.int32), cache

    return prefill, step
