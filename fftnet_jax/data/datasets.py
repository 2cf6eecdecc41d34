"""From the configuration's `data` section to the three splits that a run reads."""

import contextlib
import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fftnet_jax.config import DataConfig
from fftnet_jax.data.corpora import load_text
from fftnet_jax.data.gsm8k import counted_characters, encode_splits, make_source, read_problems
from fftnet_jax.data.windows import EvalWindows, MaskedWindows, Patterns, Recall, Source, Subset, TokenWindows
from fftnet_jax.errors import ConfigError
from fftnet_jax.files import cache_dir, write_atomic
from fftnet_jax.tokenizers import Tokenizer, get_tokenizer

SPLITS = ("train", "validation", "test")
_DIGEST_WORDS = 8  # a SHA-256, as int32


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


def load_dataset(config: DataConfig, family: str = "decoder", seed: int = 0) -> Dataset:
    """Read, tokenise and split what `config` names. An encoder's vocabulary has one more id, the mask.

    Args:
      seed: of synthetic sequences and of the masks of evaluation.

    Raises:
      ConfigError: see `load_text`, `read_problems` and `get_tokenizer`; or a split is too short for `data.length`.
    """
    if config.source == "gsm8k" and not config.text_file:
        if family == "encoder" and config.loss_on == "answer":
            raise ConfigError(
                "data.loss_on 'answer' needs model.family 'decoder': an encoder's loss is on masked tokens"
            )
        dataset = _problem_dataset(config)
    elif config.text_file or not _synthetic(config):
        dataset = _text_dataset(config)
    else:
        dataset = _synthetic_dataset(config, seed)
    if family == "encoder":
        mask_id = dataset.vocab_size
        for number, name in enumerate(SPLITS):
            masked = MaskedWindows(getattr(dataset, name), config.mask_rate, mask_id, seed + number)
            setattr(dataset, name, masked)
        if dataset.test_is_validation:
            dataset.test = dataset.validation
        dataset.vocab_size += 1
        dataset.characters = None
    return dataset


def split_bounds(shares: tuple[float, ...], size: int) -> list[int]:
    """Where contiguous splits of `size` elements start and end: 0, int(share sums × size)…, `size`."""
    return [0, *(int(sum(shares[:k]) * size) for k in range(1, len(shares))), size]


def _text_dataset(config: DataConfig) -> Dataset:
    text = load_text(config)
    tokenizer = get_tokenizer(config.tokenizer, text)
    shares = tuple(share for share in config.split if share)
    bounds = split_bounds(shares, len(text))
    parts = [text[start:stop] for start, stop in zip(bounds, bounds[1:], strict=False)]
    tokens = [_tokens(part, tokenizer) for part in parts]
    _check_sizes(config, [len(array) for array in tokens])
    train = TokenWindows(tokens[0], config.length, config.stride)
    held_out = [EvalWindows(array, config.length) for array in tokens[1:]]
    counts = [_predicted_characters(part, array, tokenizer) for part, array in zip(parts, tokens, strict=True)]
    return Dataset(
        train=train,
        validation=held_out[0],
        test=held_out[-1],
        test_is_validation=len(held_out) == 1,
        tokenizer=tokenizer,
        vocab_size=tokenizer.vocab_size,
        characters=dict(zip(SPLITS, [*counts, counts[-1]], strict=False)),
        fingerprint=_sha256(text, json.dumps([tokenizer.to_dict(), shares], sort_keys=True)),
    )


def _problem_dataset(config: DataConfig) -> Dataset:
    train, test = read_problems(config.folder)
    tokenizer, encoded = encode_splits(train, test, config)
    splits = {name: encoded[name].problems for name in SPLITS}
    settings = [config.loss_on, config.packing, config.reduce_vocabulary, [len(splits[name]) for name in SPLITS]]
    texts = (text for name in SPLITS for problem in splits[name] for text in (problem.question, problem.answer))
    return Dataset(
        **{name: make_source(encoded[name], config, train=name == "train") for name in SPLITS},
        test_is_validation=False,
        tokenizer=tokenizer,
        vocab_size=tokenizer.vocab_size,
        characters={name: counted_characters(encoded[name], tokenizer, config) for name in SPLITS},
        fingerprint=_sha256(*texts, json.dumps([tokenizer.to_dict(), settings], sort_keys=True)),
    )


def _synthetic_dataset(config: DataConfig, seed: int) -> Dataset:
    settings = {"source": config.source, "num_samples": config.num_samples, "length": config.length, "seed": seed}
    if config.source == "patterns":
        settings |= {"vocab_size": config.vocab_size, "complexity": config.pattern_complexity}
        source = Patterns(config.num_samples, config.length, config.vocab_size, config.pattern_complexity, seed)
        trained = source
    else:
        sizes = (config.num_samples, config.length, config.num_keys, config.num_values, seed)
        settings |= {"num_keys": config.num_keys, "num_values": config.num_values, "num_queries": config.num_queries}
        source = Recall(*sizes)
        trained = Recall(*sizes, config.num_queries)  # held-out sequences ask once, at the end
    shares = tuple(share for share in config.split if share)
    bounds = split_bounds(shares, config.num_samples)
    splits = [Subset(source, start, stop) for start, stop in zip(bounds, bounds[1:], strict=False)]
    for name, split in zip(SPLITS, splits, strict=False):
        if not len(split):
            raise ConfigError(
                f"data.num_samples must give each share of data.split {config.split} at least one sequence, "
                f"got {config.num_samples}, which leaves {name} with none"
            )
    return Dataset(
        train=Subset(trained, bounds[0], bounds[1]),
        validation=splits[1],
        test=splits[-1],
        test_is_validation=len(splits) == 2,
        tokenizer=None,
        vocab_size=source.vocab_size,
        characters=None,
        fingerprint=_sha256(json.dumps([settings, shares], sort_keys=True)),
    )


def _synthetic(config: DataConfig) -> bool:
    return config.source in ("patterns", "recall")


def _check_sizes(config: DataConfig, sizes: list[int]) -> None:
    label = "data.text_file" if config.text_file else f"data.source {config.source!r}"
    if sizes[0] < config.length + 1:
        raise ConfigError(
            f"{label} is too short: the training split has {sizes[0]} tokens, data.length={config.length} needs "
            f"at least {config.length + 1}"
        )
    for name, size in zip(SPLITS[1:], sizes[1:], strict=False):
        if size < 2:
            raise ConfigError(
                f"{label} is too short: the {name} split of data.split {config.split} has {size} tokens, "
                "and needs at least 2"
            )


def _predicted_characters(part: str, tokens: np.ndarray, tokenizer: Tokenizer) -> int:
    return len(part) - len(tokenizer.decode(tokens[:1]))  # the first token is never predicted


def _tokens(part: str, tokenizer: Tokenizer) -> np.ndarray:
    """The tokens of `part`, int32 (T,); slow tokenizers' are kept in the cache as a digest and the tokens."""
    if tokenizer.name in ("char", "byte"):  # quicker than the file
        return tokenizer.encode_array(part)
    key = _sha256(part, json.dumps(tokenizer.to_dict(), sort_keys=True))
    path = cache_dir() / "tokens" / f"{key}.npy"
    tokens = _read_tokens(path)
    if tokens is None:
        tokens = tokenizer.encode_array(part)
        file = io.BytesIO()
        np.save(file, np.concatenate([_digest(tokens), tokens]))
        with contextlib.suppress(OSError):  # a cache that can't be written costs time, not the run
            write_atomic(path, file.getvalue())
    return tokens


def _read_tokens(path: Path) -> np.ndarray | None:
    try:
        array = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    if array.dtype != np.int32 or array.ndim != 1:
        return None
    digest, tokens = array[:_DIGEST_WORDS], array[_DIGEST_WORDS:]
    return tokens if np.array_equal(digest, _digest(tokens)) else None  # damaged: it is built again


def _digest(tokens: np.ndarray) -> np.ndarray:
    return np.frombuffer(hashlib.sha256(np.ascontiguousarray(tokens)).digest(), np.int32)


def _sha256(*texts: str) -> str:
    digest = hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)  # the length keeps ("ab", "c") apart from ("a", "bc")
    return digest.hexdigest()
