"""Continuing token sequences with a decoder, through its cache."""

import time
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np

from fftnet_jax.errors import ConfigError
from fftnet_jax.generation.sampling import Sampling, sample
from fftnet_jax.models import Decoder
from fftnet_jax.parallel.memory import shortage

SAMPLING = Sampling()
MOST_TOKENS = 32  # made between two looks of the host
PAUSE = 0.075  # seconds between two looks of the host, about: text still flows, and the device hardly waits


def generate(
    model: Decoder,
    params: dict,
    prompts: np.ndarray | Sequence[Sequence[int]],
    max_new_tokens: int,
    how: Sampling = SAMPLING,
    seed: int = 0,
    weights: str | None = None,
) -> Iterator[np.ndarray]:
    """Yields one array (B,) of new token ids at a time, `max_new_tokens` of them.

    The model sees at most `model.config.max_length` tokens. When a row has used them up, the later half of
    them is read again and the rest forgotten, so text of any length can be written. Each row is
    continued as it would be alone, random choices apart.

    Args:
      prompts: token ids, (B, N) or B sequences of any lengths; of a longer one than fits, the end is used.
      weights: "int8" for weights of 8 bits, an approximation; see `Decoder.prepare`.

    Raises:
      ConfigError: a prompt is empty or holds what is no token, `max_new_tokens` is negative, or other `weights`.
    """
    limit = model.config.max_length
    contexts = [row[-limit:].tolist() for row in _checked(prompts, model.config.vocab_size)]
    if max_new_tokens < 0:
        raise ConfigError(f"max_new_tokens must be at least 0, got {max_new_tokens}")
    prepare, prefill, decode = _compiled(model, how, weights)
    key, constants = jax.random.key(seed), prepare(params)
    room = min(limit, _power_of_two(max(map(len, contexts)) + max_new_tokens))
    index, count, cache = 0, 1, None
    while index < max_new_tokens:
        longest = max(map(len, contexts))
        if cache is None or longest > limit:
            contexts = [row if len(row) <= limit else row[-max(1, limit // 2) :] for row in contexts]
            cache = model.init_cache(len(contexts), room)
            token_B, cache = prefill(params, constants, *_padded(contexts, room), cache, key, index)
            new_TB = np.asarray(token_B)[None]
        else:
            start, count = time.perf_counter(), min(count, max_new_tokens - index, limit + 1 - longest)
            new_TB, token_B, cache = decode(params, constants, token_B, cache, key, index, count)
            new_TB = np.asarray(new_TB)[:count]
            count = _next_count(count, time.perf_counter() - start)
        for row, new_T in zip(contexts, new_TB.T.tolist(), strict=True):
            row += new_T
        index += len(new_TB)
        yield from new_TB


def check_room(model: Decoder, rows: int, tokens: int) -> None:
    """Raises ConfigError where the caches of so many rows, of so many tokens each, can't fit on the first device."""
    room = max(1, min(model.config.max_length, tokens))
    cache = jax.eval_shape(lambda: model.init_cache(1, room))
    row = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(cache))
    missing, words = shortage(rows * row, rows * room * 8, jax.local_devices()[:1])
    if missing:
        raise ConfigError(f"{rows} continuations at a time need at least {words}")


def _checked(prompts, vocab: int) -> list[np.ndarray]:
    rows = [np.asarray(row) for row in prompts]
    if not rows or any(row.ndim != 1 or not row.size for row in rows):
        shapes = ", ".join(str(row.shape) for row in rows)
        raise ConfigError(f"each prompt must be a sequence of at least one token, got shapes: {shapes or 'none'}")
    for row in rows:
        if row.dtype.kind not in "iu" or row.min() < 0 or row.max() >= vocab:
            raise ConfigError(f"token ids must be integers in 0..{vocab - 1}, got {row.min()}..{row.max()}")
    return rows


def _padded(contexts: list[list[int]], room: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids (B, N) filled up on the left to a common length of few possible ones, and how many pads each row has."""
    length = min(room, _power_of_two(max(map(len, contexts))))
    pads_B = np.array([length - len(row) for row in contexts], np.int32)
    return np.array([[0] * pad + row for pad, row in zip(pads_B, contexts, strict=True)], np.int32), pads_B


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()


def _next_count(count: int, seconds: float) -> int:
    """How many tokens to make before the next look, when the last `count` took so many seconds."""
    return max(1, min(MOST_TOKENS, 2 * count, int(count * PAUSE / seconds)))


@lru_cache(maxsize=8)
def _compiled(model: Decoder, how: Sampling, weights: str | None):
    """Jitted functions with sampling inside; one compilation per model, setting and shape."""

    @jax.jit
    def prepare(params):
        return model.apply({"params": params}, weights, method="prepare", mutable=["constants"])[1]

    def choose(logits_BV, key, index):
        return sample(logits_BV, jax.random.fold_in(key, index), how).astype(jnp.int32)

    @partial(jax.jit, donate_argnames="cache")
    def prefill(params, constants, ids_BN, pads_B, cache, key, index):
        """The token after the context, and the cache."""
        variables = {"params": params, **constants}
        logits_BV, cache = model.apply(variables, ids_BN, cache, pads_B, last=True, method="prefill")
        return choose(logits_BV, key, index), cache

    @partial(jax.jit, donate_argnames="cache")
    def decode(params, constants, token_B, cache, key, index, count):
        """The next `count` tokens in a buffer (MOST_TOKENS, B), the last of them, and the cache."""

        def make(state):
            made, token_B, cache, new_TB = state
            logits_BV, cache = model.apply({"params": params, **constants}, token_B, cache, method="step")
            token_B = choose(logits_BV, key, index + made)
            return made + 1, token_B, cache, new_TB.at[made].set(token_B)

        start = (jnp.zeros((), jnp.int32), token_B, cache, jnp.zeros((MOST_TOKENS, len(token_B)), jnp.int32))
        _, token_B, cache, new_TB = jax.lax.while_loop(lambda state: state[0] < count, make, start)
        return new_TB, token_B, cache

    return prepare, prefill, decode
