"""Peak memory of one contender, measured in a process of its own.

There it is built (inputs, parameters, compilation), then the process's high-water mark is reset, then it
runs twice. Reported is what it held before plus what the resident set grew by; on an accelerator, the
peak of the device's allocator. As a program: `python -m benchmarks.memory MODULE CASE CONTENDER ARGUMENTS`.
"""

import argparse
import ctypes
import gc
import importlib
import json
import subprocess
import sys
import time
from pathlib import Path

import jax

ROOT = Path(__file__).resolve().parent.parent
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_memory(module: str, case: str, contender: str, args: argparse.Namespace) -> int | None:
    """Bytes, or None where the system can't tell (not Linux), or where the process failed, which it prints.

    The process calls `cases(args)` of the module, see `benchmarks.timing.Case`; `args` must be plain values.
    """
    command = [sys.executable, "-m", "benchmarks.memory", module, case, contender, json.dumps(vars(args))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        print(f"no peak memory of {contender!r} in {case!r}: {(done.stderr.splitlines() or [done.returncode])[-1]}")
        return None
    return json.loads(done.stdout.splitlines()[-1])


def built(module: str, case: str, contender: str, args: str):
    """The contender that a command names."""
    cases = importlib.import_module(module).cases(argparse.Namespace(**json.loads(args)))
    return next(found for found in cases if found.name == case).contenders[contender]()


def growth(contender) -> int | None:
    """Bytes held plus what two calls add at their peak, in this process."""
    if jax.default_backend() != "cpu":
        contender.before()
        contender.run()
        return jax.devices()[0].memory_stats()["peak_bytes_in_use"]
    if not CLEAR.exists():
        return None
    contender.before()
    _settle()
    CLEAR.write_text("5")  # resets VmHWM
    start = _kibibytes("VmRSS")
    contender.run()
    _settle()
    contender.before()
    contender.run()
    return contender.held + 1024 * (_kibibytes("VmHWM") - start)


def _settle():
    """Waits until what compilation or a call has left behind is back with the system: JAX frees it a little later."""
    for _ in range(20):
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        before = _kibibytes("VmRSS")
        time.sleep(0.3)
        if abs(_kibibytes("VmRSS") - before) < 1024:
            return


def _kibibytes(field):
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field + ":"))
    return int(line.split()[1])


if __name__ == "__main__":
    print(json.dumps(growth(built(*sys.argv[1:]))))
