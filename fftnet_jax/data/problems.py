"""GSM8K: grade-school problems with worked answers that end in "#### NUMBER".

Source: Cobbe et al. 2021, "Training Verifiers to Solve Math Word Problems" (arXiv 2110.14168), `openai/gsm8k` on the
Hugging Face hub. A problem is the text `Question: {question}\\nAnswer: {answer}` and the tokenizer's end of sequence,
or a line break where it has none.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from fftnet_jax.config import DataConfig
from fftnet_jax.errors import ConfigError

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
