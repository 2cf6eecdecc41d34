"""Contenders in processes of their own, which another process tells what to build.

As a program, `python -m benchmarks.apart MODULE CASE CONTENDER ARGUMENTS` builds one, says so with a line, and then
answers each line of its standard input with one as soon as it has done its work.
"""

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Apart:
    """The contender `of` the same case, in a process of its own with more variables in its environment; it takes its
    turns with the others. It must print nothing, and be one piece without a `before`, which would be timed."""

    of: str
    environment: dict[str, str]

    def start(self, module: str, case: str, args: argparse.Namespace) -> tuple[Callable[[], None], Callable[[], None]]:
        """What does the work once, and returns when it is done; and what ends the process."""
        environment = {**os.environ, **self.environment}
        process = subprocess.Popen(
            command("benchmarks.apart", module, case, self.of, args),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment,
        )

        def wait():
            if not process.stdout.readline():
                close()
                raise RuntimeError(f"the process of {self.of!r} in {case!r} ended with status {process.returncode}")

        def run():
            print(file=process.stdin, flush=True)
            wait()

        def close():
            process.communicate()  # the end of its input ends it

        wait()
        return run, close


def command(program: str, module: str, case: str, contender: str, args: argparse.Namespace) -> list[str]:
    """The command of a program that has `built` one contender of `module`, which has `cases(args)`, see
    `benchmarks.timing.Case`; `args` must be plain values."""
    return [sys.executable, "-m", program, module, case, contender, json.dumps(vars(args))]


def built(argv: list[str]):
    """The contender that the rest of a command names."""
    module, name, contender, args = argv
    cases = importlib.import_module(module).cases(argparse.Namespace(**json.loads(args)))
    return next(case for case in cases if case.name == name).contenders[contender]()


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the other process, and with it the input
    contender = built(sys.argv[1:])
    assert contender.pieces == 1
    print(flush=True)
    for _ in sys.stdin:
        contender.run()
        print(flush=True)


if __name__ == "__main__":
    main()
