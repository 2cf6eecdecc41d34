"""GSM8K: grade-school problems with worked answers that end in "#### NUMBER".

Source: Cobbe et al. 2021, "Training Verifiers to Solve Math Word Problems" (arXiv 2110.14168), `openai/gsm8k` on the
Hugging Face hub. A problem is the text `Question: {question}\\nAnswer: {answer}` and the tokenizer's end of sequence,
or a line break where it has none.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fftnet_jax.config import DataConfig
from fftnet_jax.data.windows import EvalWindows, Source, TokenWindows
from fftnet_jax.errors import ConfigError
from fftnet_jax.tokenizers import ReducedTokenizer, Tokenizer, get_tokenizer

HUB_NAME = "openai/gsm8k"
FILES = ("train.jsonl", "test.jsonl")


@dataclass(frozen=True)
class Problem:
    """A question and its worked answer, as they stand in the file."""

    question: str
    answer: str

    @property
    def prompt(self) -> str:
        """The text that asks for the answer, which follows after a space."""
        return f"Question: {self.question}\nAnswer:"


@dataclass(frozen=True)
class EncodedProblems:
    """Problems and their tokens, one problem after the other.

    Attributes:
      tokens: int32 (T,).
      starts: int64 (R + 1,), where in `tokens` each of the R problems begins, and the end.
      answers: int64 (R,), where in `tokens` each answer begins: the first token after "Answer:".
    """

    problems: list[Problem]
    tokens: np.ndarray
    starts: np.ndarray
    answers: np.ndarray

    def part(self, first: int, count: int) -> "EncodedProblems":
        """`count` of the problems, from number `first` on."""
        starts = self.starts[first : first + count + 1]
        answers = self.answers[first : first + count] - starts[0]
        problems, tokens = self.problems[first : first + count], self.tokens[starts[0] : starts[-1]]
        return EncodedProblems(problems, tokens, starts - starts[0], answers)

    def counted(self, loss_on: str) -> np.ndarray:
        """Which tokens count when they are predicted, bool (T,): all, or those of answers and their ends."""
        if loss_on == "all":
            return np.ones(len(self.tokens), bool)
        place_T = np.arange(len(self.tokens))
        return place_T >= np.repeat(self.answers, np.diff(self.starts))


class ProblemRows(Source):
    """One problem a row, cut at `length` positions, zeros after its end.

    `lengths` int64 (R,) counts the positions of each row that predict a token of the problem, counted or not.
    """

    def __init__(self, encoded: EncodedProblems, length: int, loss_on: str = "all"):
        self.problems, self.length = encoded.problems, length
        self._tokens, self._counted = encoded.tokens, encoded.counted(loss_on)
        self._starts, self._stops = encoded.starts[:-1], encoded.starts[1:]
        self.lengths = np.minimum(self._stops - self._starts - 1, length)

    def __len__(self) -> int:
        return len(self.problems)

    def batch(self, indices, rng=None):
        indices = np.asarray(indices, np.int64)
        places = self._starts[indices, None] + np.arange(self.length + 1)
        predicts = np.arange(self.length) < self.lengths[indices, None]
        places = np.minimum(places, len(self._tokens) - 1)
        rows = self._tokens[places]
        return {
            "inputs": np.where(predicts, rows[:, :-1], 0),
            "targets": np.where(predicts, rows[:, 1:], 0),
            "weights": (predicts & self._counted[places[:, 1:]]).astype(np.float32),
        }


class PackedProblems(Source):
    """All problems as one stream, cut into windows of `length` positions: `stride` apart, or side by side.

    Windows side by side (`stride` 0) predict each token but the first once, as `EvalWindows`; others are as
    `TokenWindows`. `lengths` int64 (R,) counts the positions of each window that predict a token, counted or not.
    """

    def __init__(self, encoded: EncodedProblems, length: int, loss_on: str = "all", stride: int = 0):
        make = (lambda array: TokenWindows(array, length, stride)) if stride else lambda a: EvalWindows(a, length)
        self.problems, self.tokens = encoded.problems, encoded.tokens
        self._windows, self._counted = make(encoded.tokens), make(encoded.counted(loss_on).astype(np.int32))
        left = len(encoded.tokens) - 1 - np.arange(len(self._windows)) * (stride or length)
        self.lengths = np.minimum(left, length)

    def __len__(self) -> int:
        return len(self._windows)

    def batch(self, indices, rng=None):
        batch = self._windows.batch(indices)
        batch["weights"] *= self._counted.batch(indices)["targets"]
        return batch


def read_problems(folder: str = "") -> tuple[list[Problem], list[Problem]]:
    """The 7,473 training and 1,319 test problems: of `folder`, or of the Hugging Face hub when it is empty.

    Raises:
      ConfigError: a file is missing, empty or not what it should be; or the hub can't be reached.
    """
    if not folder:
        return _from_hub()
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise ConfigError(f"data.folder must be a folder with {' and '.join(FILES)}, but there is no folder {folder}")
    train, test = (_from_file(path / name) for name in FILES)
    return train, test


def split_problems(train: list[Problem], test: list[Problem], config: DataConfig) -> dict[str, list[Problem]]:
    """The problems of `train`, `validation` and `test` that `config` asks for; none is in two of the splits.

    Raises:
      ConfigError: there are not so many.
    """
    num_train = config.num_problems or len(train) - config.num_validation
    if num_train < 1 or num_train + config.num_validation > len(train):
        raise ConfigError(
            f"data.num_problems and data.num_validation must leave both splits at least one of {len(train)} training "
            f"problems, got {config.num_problems} and {config.num_validation}"
        )
    if config.num_test > len(test):
        raise ConfigError(
            f"data.num_test must be at most {len(test)}, the number of test problems, got {config.num_test}"
        )
    return {
        "train": train[:num_train],
        "validation": train[num_train : num_train + config.num_validation],
        "test": test[: config.num_test or len(test)],
    }


def encode_problems(problems: list[Problem], tokenizer: Tokenizer) -> EncodedProblems:
    """The tokens of `problems`, each with its end: the tokenizer's `eos_id`, or a line break where it has none."""
    # The two parts apart, so that no token can span the place where a model starts to answer.
    prompts = _encode_all([problem.prompt for problem in problems], tokenizer)
    answers = _encode_all([_reply(problem, tokenizer) for problem in problems], tokenizer)
    eos = [] if tokenizer.eos_id is None else [tokenizer.eos_id]
    tokens = [token for prompt, answer in zip(prompts, answers, strict=True) for token in (*prompt, *answer, *eos)]
    sizes = [len(prompt) + len(answer) + len(eos) for prompt, answer in zip(prompts, answers, strict=True)]
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return EncodedProblems(problems, np.array(tokens, np.int32), starts, starts[:-1] + [len(row) for row in prompts])


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
        whole = problem.prompt + _reply(problem, tokenizer)
        size += len(whole if last == stop else tokenizer.decode(encoded.tokens[start:last])) - len(before)
    return size


def _reply(problem: Problem, tokenizer: Tokenizer) -> str:
    return f" {problem.answer}" + ("\n" if tokenizer.eos_id is None else "")


def _encode_all(texts: list[str], tokenizer: Tokenizer) -> Sequence[Sequence[int]]:
    batch = getattr(tokenizer, "encode_batch", None)  # several times quicker, where there is one
    return batch(texts) if batch else [tokenizer.encode(text) for text in texts]


def _from_file(path: Path) -> list[Problem]:
    try:
        lines = path.read_bytes().decode("utf-8").split("\n")
    except FileNotFoundError:
        raise ConfigError(f"data.folder must hold {' and '.join(FILES)}, but there is no {path}") from None
    except OSError as error:
        raise ConfigError(f"data.folder must be readable, but {path} is not: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"data.folder must hold UTF-8, but {path} is not at byte {error.start}") from None
    problems = [_problem(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not problems:
        raise ConfigError(f"data.folder must hold problems, but {path} is empty")
    return problems


def _problem(line: str, place: str) -> Problem:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        raise ConfigError(f"data.folder must hold one JSON object a line, but {place} is not JSON") from None
    found = values if isinstance(values, dict) else {}
    for name in ("question", "answer"):
        if not isinstance(found.get(name), str) or not found[name].strip():
            raise ConfigError(f"data.folder must hold problems with question and answer, but {place} has no {name}")
    return Problem(found["question"], found["answer"])


def _from_hub() -> tuple[list[Problem], list[Problem]]:
    import datasets  # seconds of import

    try:
        loaded = datasets.load_dataset(HUB_NAME, "main")
        train, test = ([Problem(row["question"], row["answer"]) for row in loaded[name]] for name in ("train", "test"))
    except Exception as error:  # the hub's client raises many kinds, each with paragraphs of advice
        raise ConfigError(
            f"data.source 'gsm8k' could not be fetched from the Hugging Face hub ({type(error).__name__}); "
            f"connect to the network, or give data.folder=FOLDER with {' and '.join(FILES)}"
        ) from None
    return train, test
