"""Grade-school problems with worked answers: GSM8K, see `fftnet_jax.data.problems`."""

import dataclasses
import json

import numpy as np

from fftnet_jax.config import DataConfig
from fftnet_jax.data.problem_rows import EncodedProblems, PackedProblems, ProblemRows, encode_problems, reply
from fftnet_jax.data.problems import Problem, read_problems, split_problems
from fftnet_jax.data.splits import SPLITS, Dataset, fingerprint
from fftnet_jax.errors import ConfigError
from fftnet_jax.tasks.base import register
from fftnet_jax.tasks.next_tokens import NextTokens
from fftnet_jax.tokenizers import ReducedTokenizer, Tokenizer, get_tokenizer


@register("gsm8k")
class GSM8K(NextTokens):
    """Problems and their answers, as text; a sample answers the first problem of a split."""

    @staticmethod
    def check(data: DataConfig, family: str) -> None:
        if family == "encoder" and data.loss_on == "answer":
            raise ConfigError(
                "data.loss_on 'answer' needs model.family 'decoder': an encoder's loss is on masked tokens"
            )

    def load(self, data: DataConfig, seed: int = 0) -> Dataset:
        train, test = read_problems(data.folder)
        tokenizer, encoded = encode_splits(train, test, data)
        splits = {name: encoded[name].problems for name in SPLITS}
        settings = [data.loss_on, data.packing, data.reduce_vocabulary, [len(splits[name]) for name in SPLITS]]
        texts = (text for name in SPLITS for problem in splits[name] for text in (problem.question, problem.answer))
        return Dataset(
            **{name: make_source(encoded[name], data, train=name == "train") for name in SPLITS},
            test_is_validation=False,
            tokenizer=tokenizer,
            vocab_size=tokenizer.vocab_size,
            characters={name: counted_characters(encoded[name], tokenizer, data) for name in SPLITS},
            fingerprint=fingerprint(*texts, json.dumps([tokenizer.to_dict(), settings], sort_keys=True)),
        )

    def opening(self, dataset: Dataset, split: str) -> tuple[list[int], str]:
        problem = getattr(dataset, split).problems[0]
        return dataset.tokenizer.encode(problem.prompt), problem.answer


def encode_splits(
    train: list[Problem], test: list[Problem], config: DataConfig
) -> tuple[Tokenizer, dict[str, EncodedProblems]]:
    """The tokenizer that `config` names, reduced to the tokens of all problems when it says so, and its splits.

    Raises:
      ConfigError: see `get_tokenizer` and `split_problems`.
    """
    splits = split_problems(train, test, config)
    text = "".join(f"{p.prompt} {p.answer}" for p in train + test) if config.tokenizer == "char" else ""
    tokenizer = get_tokenizer(config.tokenizer, text)
    if not config.reduce_vocabulary:
        return tokenizer, {name: encode_problems(problems, tokenizer) for name, problems in splits.items()}
    whole = encode_problems(train + test, tokenizer)
    reduced = ReducedTokenizer.from_ids(tokenizer, whole.tokens)
    whole = dataclasses.replace(whole, tokens=reduced.from_base(whole.tokens))
    first = {"train": 0, "validation": len(splits["train"]), "test": len(train)}
    return reduced, {name: whole.part(first[name], len(problems)) for name, problems in splits.items()}


def make_source(encoded: EncodedProblems, config: DataConfig, train: bool) -> ProblemRows | PackedProblems:
    """Rows or windows, as `data.packing` says. Only training windows overlap, where `data.stride` says so.

    Raises:
      ConfigError: no token counts, or the problems don't fill a window.
    """
    if not config.packing:
        source = ProblemRows(encoded, config.length, config.loss_on)
        if not np.any(encoded.answers - encoded.starts[:-1] <= source.lengths) and config.loss_on == "answer":
            raise ConfigError(
                f"data.length must leave room for answers when data.loss_on is 'answer', got {config.length}: "
                "each problem of a split is cut before its answer"
            )
        return source
    return PackedProblems(encoded, config.length, config.loss_on, config.stride if train else 0)


def counted_characters(encoded: EncodedProblems, tokenizer: Tokenizer, config: DataConfig) -> int:
    """How many characters the tokens that count stand for; what is cut away and the end of sequence are none."""
    size = 0
    spans = zip(encoded.problems, encoded.starts[:-1], encoded.starts[1:], encoded.answers, strict=True)
    for index, (problem, start, stop, answer) in enumerate(spans):
        last = stop if config.packing else min(stop, start + config.length + 1)
        opens = index == 0 or not config.packing  # the first token of a row, and of a stream, is never predicted
        first = answer if config.loss_on == "answer" else start + opens
        if first >= last:
            continue
        before = problem.prompt if first == answer else tokenizer.decode(encoded.tokens[start:first])
        whole = problem.prompt + reply(problem, tokenizer)
        size += len(whole if last == stop else tokenizer.decode(encoded.tokens[start:last])) - len(before)
    return size
