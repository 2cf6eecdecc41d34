"""Feed damaged files to everything that reads files, and see that it is refused in one line, soon, in little memory.

    python -m reliability.fuzz --seconds 300

Each reader (`reliability/fuzz_readers.py`) gets sound files with one to four random changes: bits, bytes, cuts, pieces
moved, lengths turned huge; in JSON also other types, values and nesting. Allowed are success and a ConfigError of one
line. A finding is anything else: another exception, more than 5 s, more than 64 MiB beside what the reader takes on
sound files. Findings are printed, kept in `tests/fuzz/` for the tests to replay, and counted in
`reliability/results/fuzz.json`; exit status 1 if there are any. A reader runs in a process of its own.
"""

import base64
import contextlib
import faulthandler
import hashlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from benchmarks import command_line
from benchmarks.timing import hardware, write_json
from fftnet_jax.errors import ConfigError
from reliability.fuzz_readers import READERS, ROOT, copy

CASES = ROOT / "tests" / "fuzz"
SECONDS, MEMORY = 5, 64 * 2**20
NUMBERS = (0, 1, 2, 7, 8, 127, 255, 2**8, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1)
VALUES = (None, True, False, 0, -1, 1, 2, 1.5, -0.0, 1e308, float("nan"), float("inf"), 2**31, 2**63, 2**70, 10**400)
VALUES += ("", "a", "\x00", "../../x", "/etc/passwd", "é" * 50, "\ud800", [], {}, [[]], [None], {"a": 1}, [0] * 50)


class Hang(BaseException):
    """Not an Exception: no reader's handler may catch it."""


def damaged(data: bytes, name: str, rng: random.Random) -> bytes:
    """The bytes of a file with one to four changes."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if name.endswith((".json", ".jsonl", "metrics")) and "seal" not in name and rng.random() < 0.7:
            data = _json(data, rng, lines=name.endswith(".jsonl"))
        elif name.endswith(".safetensors") and rng.random() < 0.5:
            size = int.from_bytes(data[:8], "little")
            header = _json(data[8 : 8 + size], rng)
            data = len(header).to_bytes(8, "little") + header + data[8 + size :]
        elif name.endswith("seal.json") and rng.random() < 0.8:  # vouched for by whoever forged it
            body = _json(data.partition(b"\n")[2], rng)
            data = hashlib.sha256(body).hexdigest().encode() + b"\n" + body
        else:
            data = _binary(data, rng)
    return data


def _binary(data: bytes, rng: random.Random) -> bytes:
    # Headers come first and decide most.
    place = rng.randrange(min(len(data), rng.choice((64, 512, len(data) + 1)))) if data else 0
    kind = rng.randrange(7)
    if kind == 0:
        flipped = bytes([data[place] ^ 1 << rng.randrange(8)]) if data else b"\x01"
        return data[:place] + flipped + data[place + 1 :]
    if kind == 1:
        return data[:place]
    if kind == 2:
        return data[:place] + rng.randbytes(rng.choice((1, 4, 100))) + data[place:]
    if kind == 3:
        return data[:place] + data[place + rng.choice((1, 4, 100)) :]
    if kind == 4:
        start = rng.randrange(len(data) + 1)
        return data[:place] + data[start : start + rng.choice((4, 8, 64))] + data[place:]
    size = rng.choice((4, 8))
    number = rng.choice(NUMBERS) % 2 ** (8 * size)
    return data[:place] + number.to_bytes(size, "little") + data[place + size :]


def _json(data: bytes, rng: random.Random, lines: bool = False) -> bytes:
    if lines:
        rows = data.split(b"\n")
        row = rng.randrange(len(rows))
        return b"\n".join([*rows[:row], _json(rows[row], rng), *rows[row + 1 :]])
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        return _binary(data, rng)
    if rng.random() < 0.03:
        return b"[" * 20_000
    places = _places(tree)
    if not places:
        return json.dumps(rng.choice(VALUES)).encode()
    holder, key = rng.choice(places)
    kind = rng.randrange(4)
    if kind == 0:
        del holder[key]
    elif kind == 1:
        holder[key] = [holder[key]]
    else:
        holder[key] = rng.choice(VALUES)
    return json.dumps(tree).encode("utf-8", "surrogatepass")


def _places(tree) -> list:
    found, left = [], [tree]
    while left:
        node = left.pop()
        if isinstance(node, (dict, list)):
            keys = list(node) if isinstance(node, dict) else range(len(node))
            found += [(node, key) for key in keys]
            left += [node[key] for key in keys]
    return found


def attempt(read, folder: Path) -> str:
    """What became of reading `folder`: "sound", "refused", or what is wrong with it in a line or more."""
    resource.setrlimit(resource.RLIMIT_AS, (_mapped() + MEMORY, -1))
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    faulthandler.dump_traceback_later(4 * SECONDS, exit=True)  # for a hang outside of Python
    try:
        read(folder)
        return "sound"
    except ConfigError as error:
        return "refused" if "\n" not in str(error) else f"message of several lines: {str(error)[:200]!r}"
    except BaseException as error:
        ours = [f for f in traceback.extract_tb(error.__traceback__) if "fftnet_jax" in f.filename]
        place = f"{Path(ours[-1].filename).name}, {ours[-1].name}" if ours else "outside"
        what = f"more than {SECONDS} s" if isinstance(error, Hang) else type(error).__name__
        return f"{what} in {place}: {' '.join(str(error).split())[:160]}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
        faulthandler.cancel_dump_traceback_later()


def work(name: str, seconds: float, seed: int) -> dict:
    """Fuzzes one reader in this process: executions, what became of them, and the findings."""
    make, read = READERS[name]
    rng, counts, findings = random.Random(f"{seed} {name}"), Counter(), {}
    signal.signal(signal.SIGALRM, _hang)
    with tempfile.TemporaryDirectory() as work:
        sound, folder = Path(work) / "sound", Path(work) / "damaged"
        sound.mkdir()
        make(sound)
        files = sorted(path.relative_to(sound).as_posix() for path in sound.rglob("*") if path.is_file())
        for _ in range(3):  # imports, threads and compilations that later ones don't need
            copy(sound, folder)
            read(folder)
            if (found := attempt(read, folder)) != "sound":
                raise SystemExit(f"the sound files of {name} were not read: {found}")
        end = time.monotonic() + seconds
        print(json.dumps({"ready": True}), flush=True)
        while time.monotonic() < end:
            file = rng.choice(files)
            data = damaged((sound / file).read_bytes(), file, rng)
            copy(sound, folder)
            (folder / file).write_bytes(data)
            # Before the attempt: whoever waits for this process knows what killed it.
            Path(work, "last").write_bytes(data)
            found = attempt(read, folder)
            counts[found if found in ("sound", "refused") else "findings"] += 1
            if found not in ("sound", "refused"):
                where = f"{file} {found.partition(':')[0]}"
                if where not in findings or len(data) < len(findings[where]["data"]):
                    findings[where] = {"file": file, "data": data, "what": found}
    return {"executions": sum(counts.values()), **counts, "findings": findings}


def _hang(*_):
    raise Hang


def _mapped() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def fuzz(name: str, seconds: float, seed: int) -> dict:
    """`work` in a process of its own; a process that dies is a finding as well."""
    command = [sys.executable, "-m", "reliability.fuzz", "--work", name, "--seconds", str(seconds), "--seed", str(seed)]
    # One arena: glibc would reserve 64 MiB for each thread, whatever is allocated.
    environment = os.environ | {"MALLOC_ARENA_MAX": "1", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    if done.returncode or len(lines) < 2:
        return {"executions": 0, "findings": {"died": {"what": f"exit {done.returncode}\n{done.stderr[-3000:]}"}}}
    return json.loads(lines[-1])


def keep(name: str, found: dict) -> None:
    """Leaves a finding's file for the tests."""
    case = {"reader": name, "file": found["file"], "data": found["data"], "what": found["what"]}
    digest = hashlib.sha256(found["data"].encode()).hexdigest()[:8]
    write_json(CASES / f"{name}-{digest}.json", case)


def main(argv=None) -> int:
    parser = command_line.parser(__doc__)
    parser.add_argument("--readers", nargs="+", default=list(READERS), choices=READERS, metavar="NAME")
    parser.add_argument("--seconds", type=float, default=300, help="for each reader (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default=str(ROOT / "reliability/results/fuzz.json"), metavar="FILE")
    parser.add_argument("--work", choices=READERS, help="fuzz one reader in this process")
    args = parser.parse_args(argv)
    if not 0 < args.seconds < 1e6:
        raise ConfigError(f"--seconds must be above 0 and below 1,000,000, got {args.seconds:g}")
    if not Path(args.output).resolve().parent.is_dir():
        raise ConfigError(f"--output must be a file in a folder that is there, got {args.output}")
    if args.work:
        found = work(args.work, args.seconds, args.seed)
        for finding in found["findings"].values():
            finding["data"] = base64.b64encode(finding["data"]).decode()
        print(json.dumps(found), flush=True)
        return 0
    report = {"hardware": hardware(), "seed": args.seed, "seconds": args.seconds, "readers": {}}
    with contextlib.suppress(FileNotFoundError):  # others' figures stay
        report["readers"] = json.loads(Path(args.output).read_text())["readers"]
    findings = 0
    for name in tqdm(args.readers, unit="reader"):
        found = fuzz(name, args.seconds, args.seed)
        for finding in found["findings"].values():
            tqdm.write(f"{name}, {finding.get('file')}: {finding['what']}")
            if "data" in finding:
                keep(name, finding)
        findings += len(found["findings"])
        counts = {key: found.get(key, 0) for key in ("executions", "sound", "refused")}
        report["readers"][name] = {**counts, "findings": len(found["findings"]), "seconds": args.seconds}
        tqdm.write(f"{name}: {report['readers'][name]}")
        write_json(Path(args.output), report)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(command_line.run(main))
