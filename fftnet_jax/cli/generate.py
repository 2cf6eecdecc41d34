"""Continue a prompt with a trained run: `python generate.py --workdir runs/shakespeare --prompt "ROMEO:"`."""

import argparse
import os
import sys
import time

import numpy as np

from fftnet_jax.config import LARGEST, Arguments, run_command
from fftnet_jax.errors import ConfigError
from fftnet_jax.generation import Sampling, check_room, generate, read_prompts, stream_text
from fftnet_jax.ops.int8 import WEIGHTS
from fftnet_jax.runs.opening import load_decoder


def parse(argv: list[str]) -> argparse.Namespace:
    parser = Arguments(
        description=__doc__ + " Text goes to standard output, everything else to standard error.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--workdir", required=True, metavar="DIR", help="folder that train.py wrote")
    parser.add_argument("--checkpoint", default="best", choices=("best", "latest"), help="which parameters")
    parser.add_argument("--untrained", action="store_true", help="use random parameters where there is no checkpoint")
    parser.add_argument("--prompt", action="append", metavar="TEXT", help="text to continue; several go in one batch")
    parser.add_argument(
        "--prompt_file", metavar="FILE", help="UTF-8 file with the prompt; - or no prompt at all: standard input"
    )
    parser.add_argument("--max_new_tokens", type=int, default=200, metavar="N", help="tokens to add")
    parser.add_argument("--temperature", type=float, default=1.0, help="0 is greedy")
    parser.add_argument("--top_k", type=int, default=0, metavar="K", help="only the K likeliest tokens; 0 for all")
    parser.add_argument("--top_p", type=float, default=1.0, metavar="P", help="only the likeliest tokens of mass P")
    parser.add_argument(
        "--num_samples", type=int, default=1, metavar="N", help="continuations of each prompt, in one batch"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random choices")
    parser.add_argument("--weights", choices=WEIGHTS, help="of 8 bits, approximately; by default as the model computes")
    parser.add_argument("--stop", default="", metavar="TEXT", help="end before this text")
    args = parser.parse_args(argv)
    for name, least in (("num_samples", 1), ("max_new_tokens", 0), ("seed", 0)):
        if not least <= getattr(args, name) <= LARGEST:
            parser.error(f"--{name} must be in {least}..2^31 - 1, got {getattr(args, name)}")
    return args


def write_text(run, prompts: list[str], args, how) -> int:
    """Prints the continuations, one as it comes and several when they are made; returns the number of tokens made."""
    rows = [(prompt, sample + 1) for prompt in prompts for sample in range(args.num_samples)]
    ids = [run.tokenizer.encode(prompt) for prompt, _ in rows]
    steps = generate(run.model, run.params, ids, args.max_new_tokens, how, args.seed, args.weights)
    if len(rows) == 1:
        count = 0

        def counted():
            nonlocal count
            for ids_B in steps:
                count += 1
                yield int(ids_B[0])

        print(prompts[0], end="", flush=True)
        for piece in stream_text(counted(), run.tokenizer, args.stop):
            print(piece, end="", flush=True)
        print(flush=True)
        return count
    new_BN = np.array(list(steps), int).reshape(-1, len(rows)).T
    for (prompt, sample), new_N in zip(rows, new_BN, strict=True):
        heading = f"--- sample {sample}\n" if args.num_samples > 1 else ""
        print(f"{heading}{prompt}{''.join(stream_text(new_N, run.tokenizer, args.stop))}", flush=True)
    return new_BN.size


def main(argv: list[str]) -> int:
    try:
        return run_command(lambda: answer(parse(argv)), "\nstopped")
    except BrokenPipeError:  # the reader, such as head, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains again when it ends
        return 0


def answer(args: argparse.Namespace) -> int:
    """Prints the continuations, and how long they took."""
    how = Sampling(args.temperature, args.top_k, args.top_p)
    run = load_decoder(args.workdir, args.checkpoint, args.untrained)
    prompts = read_prompts(args.prompt, args.prompt_file)
    for prompt in prompts:
        run.tokenizer.encode(prompt)  # all are checked before the first is continued
    try:
        check_room(run.model, len(prompts) * args.num_samples, args.max_new_tokens)
    except ConfigError as error:
        raise ConfigError(f"--num_samples must be lower, got {args.num_samples}: {error}") from error
    print(f"{run.describe()}; {how}, seed {args.seed}", file=sys.stderr)
    start = time.monotonic()
    count = write_text(run, prompts, args, how)
    seconds = time.monotonic() - start
    print(f"{count} tokens in {seconds:.1f} s, {count / seconds:,.0f} tokens/s, compilation included", file=sys.stderr)
    return 0
