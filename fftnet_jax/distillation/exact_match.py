"""GSM8K exact match: `python -m fftnet_jax.distillation.exact_match --workdir runs/gsm8k`, or `--teacher NAME`.

A model answers each problem greedily, and is right when the number after its "####" is the one of the worked answer.
"""

import argparse
import dataclasses
import json
import os
import re
import sys
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from fftnet_jax.config import LARGEST, Arguments, DataConfig
from fftnet_jax.config.command_line import run_command
from fftnet_jax.data import Problem, read_problems, split_problems
from fftnet_jax.distillation.teachers import load_teacher
from fftnet_jax.errors import ConfigError
from fftnet_jax.files import write_atomic
from fftnet_jax.generation import Sampling, generate
from fftnet_jax.runs.opening import load_decoder
from fftnet_jax.tokenizers import Tokenizer

MARK = "####"
LOOK_EVERY = 16  # tokens between two looks for the end of an answer in the text, which costs a decoding of each row
_NUMBER = re.compile(r"([-+]?)\s*\$?\s*([-+]?)([0-9][0-9,]*(?:\.[0-9]+)?|\.[0-9]+)(/[0-9]+)?")
_END = re.compile(rf"{MARK}[^\n]*[0-9][^\n]*(?=\n)|(?=\n\s*Question:)")  # an answer is over, whatever follows

# Prompts of any lengths and the most new tokens → arrays (B,) of token ids, one at a time.
GenerateBatch = Callable[[list[list[int]], int], Iterator[np.ndarray]]


def extract_answer(text: str) -> str | None:
    """The number after the last "####" of `text`, in one spelling: "+$1,050.0." gives "1050". None without one."""
    _, mark, rest = text.rpartition(MARK)
    found = _NUMBER.search(rest.strip().partition("\n")[0]) if mark else None
    if not found:
        return None
    before, after, digits, divisor = found.groups()
    whole, _, part = digits.replace(",", "").partition(".")
    whole, part = whole.lstrip("0") or "0", part.rstrip("0")
    number = f"{whole}.{part}" if part else whole
    sign = "-" if "-" in before + after and number != "0" else ""
    return sign + number + (divisor or "")


def is_correct(generated: str, reference: str) -> bool:
    """Whether two answers, each with its "####", end in the same number."""
    predicted = extract_answer(generated)
    return predicted is not None and predicted == extract_answer(reference)


def few_shot_prompt(shots: list[Problem]) -> Callable[[Problem], str]:
    """A prompt that shows `shots`, worked out, before the question."""
    shown = "".join(f"{shot.prompt} {shot.answer}\n\n" for shot in shots)
    return lambda problem: shown + problem.prompt


def evaluate_exact_match(
    generate_batch: GenerateBatch,
    tokenizer: Tokenizer,
    problems: list[Problem],
    *,
    max_new_tokens: int = 256,
    batch_size: int = 32,
    prompt: Callable[[Problem], str] = lambda problem: problem.prompt,
    eos_ids: Collection[int] = (),
    out_file: str | Path | None = None,
) -> dict:
    """{"correct", "total", "exact_match"} of the answers that `generate_batch` gives to `problems`.

    An answer ends with an end of sequence, after the line of its "####", or before another question; a batch ends with
    the last of its answers.

    Args:
      eos_ids: tokens that end an answer, beside the tokenizer's own.
      out_file: gets one JSON object a problem: question, answer, generated, predicted, reference, correct.
    """
    if not problems:
        raise ConfigError("exact match needs at least one problem, got none")
    ends = sorted({*eos_ids, tokenizer.eos_id} - {None})
    rows = []
    with tqdm(total=len(problems), desc="exact match", unit="problem", leave=False, disable=None) as bar:
        for start in range(0, len(problems), batch_size):
            batch = problems[start : start + batch_size]
            prompts = [tokenizer.encode(prompt(problem)) for problem in batch]
            prompts += prompts[:1] * (min(batch_size, len(problems)) - len(batch))  # one shape, one compilation
            texts = _answers(generate_batch(prompts, max_new_tokens), len(batch), tokenizer, ends)
            rows += [_row(problem, text) for problem, text in zip(batch, texts, strict=True)]
            bar.update(len(batch))
            bar.set_postfix(correct=sum(row["correct"] for row in rows))
    if out_file:
        write_atomic(Path(out_file), "".join(json.dumps(row) + "\n" for row in rows).encode("utf-8"))
    correct = sum(row["correct"] for row in rows)
    return {"correct": correct, "total": len(rows), "exact_match": correct / len(rows)}


def _answers(steps: Iterator[np.ndarray], count: int, tokenizer: Tokenizer, ends: list[int]) -> list[str]:
    """The texts of the first `count` rows; `steps` is read no further than to their ends."""
    made, ended_B = [], np.zeros(count, bool)
    for step in steps:
        made.append(np.asarray(step)[:count])
        ended_B |= np.isin(made[-1], ends)
        if len(made) % LOOK_EVERY == 0:
            for row in np.flatnonzero(~ended_B):
                ended_B[row] = _END.search(_text([ids_B[row] for ids_B in made], tokenizer, ends)) is not None
        if ended_B.all():
            break
    texts = [_text([ids_B[row] for ids_B in made], tokenizer, ends) for row in range(count)]
    return [text[: found.end()] if (found := _END.search(text)) else text for text in texts]


def _text(ids: list[int], tokenizer: Tokenizer, ends: list[int]) -> str:
    end = next((place for place, token in enumerate(ids) if token in ends), len(ids))
    # A model may have more outputs than the tokenizer has tokens; those stand for nothing.
    return tokenizer.decode([int(token) for token in ids[:end] if token < tokenizer.vocab_size])


def _row(problem: Problem, generated: str) -> dict:
    return {
        "question": problem.question,
        "answer": problem.answer,
        "generated": generated,
        "predicted": extract_answer(generated),
        "reference": extract_answer(problem.answer),
        "correct": is_correct(generated, problem.answer),
    }


def parse(argv: list[str]) -> argparse.Namespace:
    parser = Arguments(
        prog="python -m fftnet_jax.distillation.exact_match",
        description="Exact match on GSM8K, answered greedily. Figures go to standard output.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--workdir", metavar="DIR", help="folder that train.py wrote")
    who.add_argument("--teacher", metavar="WHICH", help="folder, GGUF file, smollm2, or OWNER/MODEL of the hub")
    parser.add_argument("--checkpoint", default="best", choices=("best", "latest"), help="of the run")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"), help="of the teacher")
    parser.add_argument("--folder", metavar="DIR", help="GSM8K; the run's, or the Hugging Face hub's, where not given")
    parser.add_argument(
        "--split", default="test", choices=("test", "validation"), help="the run's; a teacher's is whole"
    )
    parser.add_argument("--num_problems", type=int, default=0, metavar="N", help="the first N; 0 for all")
    parser.add_argument(
        "--shots", type=int, default=0, metavar="K", help="worked training problems before each question"
    )
    parser.add_argument("--batch_size", type=int, default=32, metavar="B", help="problems at a time")
    parser.add_argument("--max_new_tokens", type=int, default=256, metavar="N", help="tokens an answer can have")
    parser.add_argument("--out", metavar="FILE", help="JSON lines: every problem and its answer")
    args = parser.parse_args(argv)
    for name, least in (("num_problems", 0), ("shots", 0), ("batch_size", 1), ("max_new_tokens", 1)):
        if not least <= getattr(args, name) <= LARGEST:
            parser.error(f"--{name} must be in {least}..2^31 - 1, got {getattr(args, name)}")
    return args


def run(args: argparse.Namespace) -> dict:
    """What `main` prints; the answers go to `args.out`."""
    if args.out:
        _check_out(Path(args.out))
    model, params, tokenizer, data = _open_run(args) if args.workdir else _open_teacher(args)
    problems, shots = _problems(args, data)
    prompt, limit = few_shot_prompt(shots), model.config.max_length
    cut = sum(len(tokenizer.encode(prompt(problem))) > limit for problem in problems)
    if cut:
        print(
            f"{cut} of {len(problems)} prompts are longer than the model's {limit} tokens: starts lost", file=sys.stderr
        )
    return evaluate_exact_match(
        lambda prompts, most: generate(model, params, prompts, most, Sampling(temperature=0)),
        tokenizer,
        problems,
        max_new_tokens=args.max_new_tokens,
        batch_size=args.batch_size,
        prompt=prompt,
        eos_ids=getattr(model.config, "eos_ids", ()),
        out_file=args.out,
    )


def _open_run(args: argparse.Namespace):
    loaded = load_decoder(args.workdir, args.checkpoint)
    folder = loaded.config.data.folder if args.folder is None else args.folder
    data = dataclasses.replace(loaded.config.data, source="gsm8k", folder=folder)
    return loaded.model, loaded.params, loaded.tokenizer, data


def _open_teacher(args: argparse.Namespace):
    model, params, tokenizer = load_teacher(args.teacher, args.dtype)
    if tokenizer is None:
        raise ConfigError(f"--teacher must come with a tokenizer, and {args.teacher} has none")
    return model, params, tokenizer, DataConfig(source="gsm8k", folder=args.folder or "")


def _problems(args: argparse.Namespace, data: DataConfig) -> tuple[list[Problem], list[Problem]]:
    """The problems to answer and those to show."""
    splits = split_problems(*read_problems(data.folder), data)
    problems, train = splits[args.split], splits["train"]
    for name, wanted, there in (("num_problems", args.num_problems, problems), ("shots", args.shots, train)):
        if wanted > len(there):
            raise ConfigError(f"--{name} must be at most {len(there)}, as many as there are, got {wanted}")
    return problems[: args.num_problems or len(problems)], train[: args.shots]


def _check_out(path: Path) -> None:
    """Before the work; nothing is made yet, as what follows may be refused."""
    there = next(folder for folder in path.absolute().parents if folder.exists())
    reason = ""
    if path.is_dir():
        reason = "Is a directory"
    elif not there.is_dir():
        reason = f"{there} is no folder"
    elif not os.access(path if path.exists() else there, os.W_OK):
        reason = "Permission denied"
    if reason:
        raise ConfigError(f"--out must be a file that can be written, got {path}: {reason}")


def main(argv: list[str]) -> int:
    return run_command(lambda: report(parse(argv)), "\nstopped")


def report(args: argparse.Namespace) -> int:
    start = time.monotonic()
    figures = run(args)
    share = f"exact match {figures['exact_match']:.4f}"
    print(f"{args.split}: {share}, {figures['correct']} of {figures['total']} problems correct")
    print(f"{time.monotonic() - start:.0f} s, compilation included", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
