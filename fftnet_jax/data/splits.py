"""The three splits that a run reads, and where they are cut."""

import hashlib
import json
from dataclasses import dataclass

from fftnet_jax.config import DataConfig
from fftnet_jax.data.windows import Source, Subset
from fftnet_jax.errors import ConfigError
from fftnet_jax.tokenizers import Tokenizer

SPLITS = ("train", "validation", "test")


@dataclass
class Dataset:
    """Three splits and what a run must know about them.

    `characters` counts, per split, the characters that its tokens predict, for bits per character; it is None for
    synthetic tasks and for encoders, which predict only some tokens. `fingerprint` changes with the text, the
    tokenizer, the split and the synthetic settings.
    """

    train: Source
    validation: Source
    test: Source
    test_is_validation: bool
    tokenizer: Tokenizer | None
    vocab_size: int
    characters: dict[str, int] | None
    fingerprint: str


def split_bounds(shares: tuple[float, ...], size: int) -> list[int]:
    """Where contiguous splits of `size` elements start and end: 0, int(share sums × size)…, `size`."""
    return [0, *(int(sum(shares[:k]) * size) for k in range(1, len(shares))), size]


def split_rows(data: DataConfig, seed: int, settings: dict, trained: Source, held_out: Source) -> Dataset:
    """The splits of `data.num_samples` sequences that are made up: rows of `trained`, then rows of `held_out`.

    Args:
      settings: which the sequences depend on beside their number, length and seed.
    """
    shares = tuple(share for share in data.split if share)
    bounds = split_bounds(shares, data.num_samples)
    sources = [trained] + [held_out] * (len(shares) - 1)
    splits = [Subset(*cut) for cut in zip(sources, bounds, bounds[1:], strict=False)]
    for name, split in zip(SPLITS, splits, strict=False):
        if not len(split):
            raise ConfigError(
                f"data.num_samples must give each share of data.split {data.split} at least one sequence, "
                f"got {data.num_samples}, which leaves {name} with none"
            )
    settings |= {"source": data.source, "num_samples": data.num_samples, "length": data.length, "seed": seed}
    return Dataset(
        train=splits[0],
        validation=splits[1],
        test=splits[-1],
        test_is_validation=len(splits) == 2,
        tokenizer=None,
        vocab_size=held_out.vocab_size,
        characters=None,
        fingerprint=fingerprint(json.dumps([settings, shares], sort_keys=True)),
    )


def fingerprint(*texts: str) -> str:
    """SHA-256 of texts, in hexadecimal."""
    digest = hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)  # the length keeps ("ab", "c") apart from ("a", "bc")
    return digest.hexdigest()
