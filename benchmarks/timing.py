"""What the benchmarks share: contenders timed in turns, tables, JSON, pictures.

A benchmark is a list of cases; a case holds contenders that do the same work. `benchmark` runs it all:

    def cases(args) -> list[Case]: ...
    def main(argv=None): benchmark("mixers", cases, __doc__, argv)
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import jax
import jax.numpy as jnp
from matplotlib.figure import Figure

from benchmarks import command_line
from benchmarks.memory import peak_memory
from fftnet_jax.files import write_atomic

COLORS = {"torch": "#7f7f7f", "ours": "#08519c", "definition": "#6baed6", "attention": "#d94801"}


@dataclass(frozen=True)
class Contender:
    """One way to do a piece of work.

    Attributes:
      run: does it, and returns only when it is done.
      pieces: equal pieces that one call does; all times are per piece.
      before: brings back the state ahead of each call, untimed.
      held: bytes that exist before a call (inputs, parameters, optimiser state); part of the peak memory.
    """

    run: Callable[[], object]
    pieces: int = 1
    before: Callable[[], object] = lambda: None
    held: int = 0


@dataclass(frozen=True)
class Case:
    """Contenders, by name, for one piece of work of `tokens` tokens; each is built only when its turn comes.

    Ratios are times over those of `reference` (by default the first contender). `length` is the place on the
    picture's axis; without it cases stand side by side.
    """

    name: str
    tokens: int
    contenders: dict[str, Callable[[], Contender]]
    reference: str = ""
    length: int | None = None


def compiled(function: Callable, *args) -> Contender:
    """A JAX function of arrays, compiled ahead."""
    program = jax.jit(function).lower(*jax.block_until_ready(args)).compile()
    return Contender(lambda: jax.block_until_ready(program(*args)), held=nbytes(args))


def forward_backward(function: Callable, params, x_BND: jax.Array) -> Contender:
    """Output and gradients to parameters and input; the cotangent is random, so that nothing can be simplified away."""

    def both(params, x_BND, dy_BND):
        y_BND, pull = jax.vjp(function, params, x_BND)
        return y_BND, pull(dy_BND)

    return compiled(both, params, x_BND, jax.random.normal(jax.random.key(1), x_BND.shape))


def nbytes(tree) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def in_turns(
    contenders: dict[str, Contender], rounds: int, turn: float = 0.25, budget: float = 300.0, long: float = 8.0
) -> dict:
    """Seconds per piece for each contender and round; a slow spell of the machine meets all of them.

    A turn repeats the call until about `turn` seconds are full. Ahead goes a call that is not timed, unless it takes
    `long` seconds and two turns: it pays for what the contender before left of caches and memory. When the rounds would
    take more than `budget` seconds in all there are fewer, but at least three.
    """
    once = {name: _seconds(contender, 1) for name, contender in contenders.items()}
    calls = {name: max(1, min(100, round(turn / seconds))) for name, seconds in once.items()}
    ahead = {name: seconds < max(long, 2 * turn) for name, seconds in once.items()}
    planned = sum(once[name] * (calls[name] + ahead[name]) for name in contenders)
    seconds = {name: [] for name in contenders}
    for index in range(min(rounds, max(3, int(budget / planned)))):
        for name in list(contenders)[:: -1 if index % 2 else 1]:  # so that none always follows the same one
            if ahead[name]:
                _seconds(contenders[name], 1)
            seconds[name].append(_seconds(contenders[name], calls[name]) / contenders[name].pieces)
    return seconds


def _seconds(contender, calls):
    total = 0.0
    for _ in range(calls):
        contender.before()
        start = time.perf_counter()
        contender.run()
        total += time.perf_counter() - start
    return total / calls


def summary(seconds: dict[str, list[float]], reference: str) -> list[dict]:
    """A row per contender: median, min and max in seconds; ratio is the median of the round-by-round ratios."""
    return [
        {
            "name": name,
            "median": statistics.median(mine),
            "min": min(mine),
            "max": max(mine),
            "ratio": statistics.median(a / b for a, b in zip(mine, seconds[reference], strict=True)),
            "seconds": mine,
        }
        for name, mine in seconds.items()
    ]


def print_table(title: str, rows: list[dict], tokens: int) -> None:
    """Milliseconds per piece, tokens per second, ratio to the reference, and peak memory where it was measured."""
    width = max(24, *(len(row["name"]) for row in rows))
    print(
        f"\n{title}\n{'':<{width}}{'median ms':>12}{'min':>11}{'max':>11}{'tokens/s':>12}{'ratio':>9}{'peak MiB':>10}"
    )
    for row in rows:
        times = "".join(f"{row[key] * 1e3:>{size}.2f}" for key, size in (("median", 12), ("min", 11), ("max", 11)))
        peak = f"{row['peak_bytes'] / 2**20:,.0f}" if row["peak_bytes"] is not None else "-"
        rate = f"{tokens / row['median']:,.0f}"
        print(f"{row['name']:<{width}}{times}{rate:>12}{row['ratio']:>9.2f}{peak:>10}", flush=True)


def hardware() -> dict:
    """Processor, cores allowed, load (processes running or waiting, last minute), JAX's device, versions, date."""
    info = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    packages = ("jax", "jaxlib", "flax", *(("torch",) if importlib.util.find_spec("torch") else ()))
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": cores(),
        "load": os.getloadavg()[0],
        "device": jax.devices()[0].device_kind,
        "platform": platform.platform(),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
    }


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def write_json(path: Path, content: dict) -> None:
    """Results, as the folders `results` hold them."""
    write_atomic(path, (json.dumps(content, indent=1) + "\n").encode())


def times_picture(path: Path, title: str, tables: list[dict]) -> None:
    """Median times of all cases: lines over lengths, or columns of cases that have none."""
    series = {}
    for table in tables:
        for row in table["rows"]:
            series.setdefault(row["name"], {})[table["length"] or table["name"]] = row["median"]
    places = list(dict.fromkeys(table["length"] or table["name"] for table in tables))
    figure = Figure(figsize=(11, 5), layout="constrained")
    axes = figure.subplots()
    columns = isinstance(places[0], str)
    for index, (name, points) in enumerate(series.items()):
        xs = [places.index(x) for x in points] if columns else list(points)
        color = next((color for word, color in COLORS.items() if word in name), None)
        style = {"color": color, "marker": "osD^vPX*"[index % 8], "linestyle": "none" if columns else "-"}
        axes.plot(xs, [seconds * 1e3 for seconds in points.values()], label=name, alpha=0.85, **style)
    xlabel, xscale = ("", "linear") if columns else ("tokens per sequence", "log")
    axes.set(title=title, xlabel=xlabel, ylabel="milliseconds", yscale="log", xscale=xscale)
    if columns:
        axes.set_xticks(range(len(places)), [place.replace(" ", "\n") for place in places], fontsize=7)
    axes.grid(alpha=0.3, which="both")
    figure.legend(fontsize=8, loc="outside right upper")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


PLACES = ("folder", "gsm8k")  # arguments that are paths, of no use on another machine


def benchmark(
    name: str,
    cases: Callable,
    doc: str,
    argv=None,
    arguments: Callable = lambda parser: None,
    picture: Callable = times_picture,
    turn: float = 0.25,
) -> list[dict]:
    """Times every case that the command line asks for; prints tables, writes the JSON and the picture.

    Args:
      name: of the module in `benchmarks`, which a process of its own imports to measure the memory.
      cases: parsed arguments → list of `Case`.
      arguments: adds further flags to the parser; their values must be plain.
      picture: of (path, title, tables), draws what the README shows.
      turn: see `in_turns`.
    """
    parser = command_line.parser(doc)
    parser.add_argument("--rounds", type=int, default=0, help="turns of each contender; 0 for 15, or 3 with --quick")
    parser.add_argument("--quick", action="store_true", help="tiny shapes, to see that everything runs")
    parser.add_argument(
        "--only",
        type=command_line.pattern,
        default="",
        metavar="PATTERN",
        help="cases whose name has this regular expression",
    )
    parser.add_argument("--no_peers", action="store_true", help="leave out the PyTorch rows")
    parser.add_argument("--no_memory", action="store_true", help="leave out the peak memory")
    parser.add_argument("--folder", default="", help="where results go; by default runs/benchmarks for a partial run")
    arguments(parser)
    args = parser.parse_args(argv)
    if not 0 <= args.rounds < 10**6:
        parser.error(f"--rounds must be in 0..999999, got {args.rounds}")
    partial = any(value != parser.get_default(key) for key, value in vars(args).items() if key != "folder")
    folder = Path(args.folder or ("runs/benchmarks" if partial else "."))
    missing = _why_no_peers()
    args.peers = not (args.no_peers or missing)
    found = cases(args)
    wanted = [case for case in found if re.search(args.only, case.name)]
    if not wanted:
        parser.error(f"--only must be found in one of: {', '.join(case.name for case in found)}; got {args.only!r}")
    if missing and not args.no_peers:
        print(f"the PyTorch rows are left out: {missing}")
    known = {key: value for key, value in vars(args).items() if key not in PLACES}
    machine, tables = hardware(), []
    for case in wanted:
        tables.append(_run(f"benchmarks.{name}", case, args, args.rounds or (3 if args.quick else 15), turn))
        content = {"hardware": machine, "arguments": known, "cases": tables}
        write_json(folder / f"benchmarks/results/{name}.json", content)  # each time, so that nothing is lost
    picture(folder / f"docs/bench_{name}.png", f"{name}: {machine['cores']} × {machine['cpu']}", tables)
    return tables


def _why_no_peers() -> str:
    if jax.default_backend() != "cpu":
        return "they run on the CPU only"
    if not importlib.util.find_spec("torch"):
        return "torch is not installed (pip install -e '.[peers]')"
    return ""


def _run(module: str, case: Case, args: argparse.Namespace, rounds: int, turn: float) -> dict:
    reference = case.reference or next(iter(case.contenders))
    rows = summary(in_turns({name: make() for name, make in case.contenders.items()}, rounds, turn), reference)
    for row in rows:
        row["peak_bytes"] = None if args.no_memory else peak_memory(module, case.name, row["name"], args)
    print_table(case.name, rows, case.tokens)
    return {"name": case.name, "tokens": case.tokens, "length": case.length, "reference": reference, "rows": rows}


def random_input(*shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(0), shape, jnp.float32)
