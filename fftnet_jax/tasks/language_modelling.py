"""Modelling text: a corpus, or the user's own file."""

import json

from fftnet_jax.config import DataConfig
from fftnet_jax.data.corpora import load_text
from fftnet_jax.data.splits import SPLITS, Dataset, fingerprint, split_bounds
from fftnet_jax.data.token_cache import encoded
from fftnet_jax.data.windows import EvalWindows, TokenWindows
from fftnet_jax.errors import ConfigError
from fftnet_jax.tasks.base import register
from fftnet_jax.tasks.next_tokens import NextTokens
from fftnet_jax.tokenizers import get_tokenizer


@register("shakespeare", "tinyshakespeare")
class LanguageModelling(NextTokens):
    """Windows of text, `data.stride` apart in training and side by side elsewhere."""

    def load(self, data: DataConfig, seed: int = 0) -> Dataset:
        text = load_text(data)
        tokenizer = get_tokenizer(data.tokenizer, text)
        shares = tuple(share for share in data.split if share)
        bounds = split_bounds(shares, len(text))
        parts = [text[start:stop] for start, stop in zip(bounds, bounds[1:], strict=False)]
        tokens = [encoded(part, tokenizer) for part in parts]
        _check_sizes(data, [len(array) for array in tokens])
        held_out = [EvalWindows(array, data.length) for array in tokens[1:]]
        # The first token is never predicted.
        counts = [len(part) - len(tokenizer.decode(array[:1])) for part, array in zip(parts, tokens, strict=True)]
        return Dataset(
            train=TokenWindows(tokens[0], data.length, data.stride),
            validation=held_out[0],
            test=held_out[-1],
            test_is_validation=len(held_out) == 1,
            tokenizer=tokenizer,
            vocab_size=tokenizer.vocab_size,
            characters=dict(zip(SPLITS, [*counts, counts[-1]], strict=False)),
            fingerprint=fingerprint(text, json.dumps([tokenizer.to_dict(), shares], sort_keys=True)),
        )


def _check_sizes(data: DataConfig, sizes: list[int]) -> None:
    label = "data.text_file" if data.text_file else f"data.source {data.source!r}"
    if sizes[0] < data.length + 1:
        raise ConfigError(
            f"{label} is too short: the training split has {sizes[0]} tokens, data.length={data.length} needs "
            f"at least {data.length + 1}"
        )
    for name, size in zip(SPLITS[1:], sizes[1:], strict=False):
        if size < 2:
            raise ConfigError(
                f"{label} is too short: the {name} split of data.split {data.split} has {size} tokens, "
                "and needs at least 2"
            )
