"""GSM8K's problems as tokens: one problem a row, or all of them as one stream."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fftnet_jax.data.problems import Problem
from fftnet_jax.data.windows import EvalWindows, Source, TokenWindows
from fftnet_jax.tokenizers import Tokenizer


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


def encode_problems(problems: list[Problem], tokenizer: Tokenizer) -> EncodedProblems:
    """The tokens of `problems`, each with its end: the tokenizer's `eos_id`, or a line break where it has none."""
    # The two parts apart, so that no token can span the place where a model starts to answer.
    prompts = _encode_all([problem.prompt for problem in problems], tokenizer)
    answers = _encode_all([reply(problem, tokenizer) for problem in problems], tokenizer)
    eos = [] if tokenizer.eos_id is None else [tokenizer.eos_id]
    tokens = [token for prompt, answer in zip(prompts, answers, strict=True) for token in (*prompt, *answer, *eos)]
    sizes = [len(prompt) + len(answer) + len(eos) for prompt, answer in zip(prompts, answers, strict=True)]
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return EncodedProblems(problems, np.array(tokens, np.int32), starts, starts[:-1] + [len(row) for row in prompts])


def reply(problem: Problem, tokenizer: Tokenizer) -> str:
    """What a model is to write after a problem's prompt."""
    return f" {problem.answer}" + ("\n" if tokenizer.eos_id is None else "")


def _encode_all(texts: list[str], tokenizer: Tokenizer) -> Sequence[Sequence[int]]:
    batch = getattr(tokenizer, "encode_batch", None)  # several times quicker, where there is one
    return batch(texts) if batch else [tokenizer.encode(text) for text in texts]
