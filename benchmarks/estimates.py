"""The rows that `python -m benchmarks.compile` fills: kept in a file, as tables and as a picture."""

import importlib.metadata
import json
import re
from datetime import UTC, datetime
from pathlib import Path

import jax
from matplotlib.figure import Figure

from benchmarks.ahead import Compiled
from benchmarks.chips import CHIPS
from benchmarks.programs import Program
from benchmarks.timing import write_json
from fftnet_jax.errors import ConfigError

COMPILERS = {"tpu": "libtpu", "gpu": "jax-cuda12-plugin"}
KINDS = {"mixer": "Mixers, forward and backward", "train": "Train steps", "decode": "Decoding steps"}


def row(chip: str, program: Program, found: Compiled | None, error: str = "") -> dict:
    """What is kept of a program: `error` says why it was not compiled, else ""."""
    compiler = COMPILERS[CHIPS[chip].form]
    values = {
        "chip": chip,
        "kind": program.kind,
        "program": program.name,
        "shape": list(program.shape),
        "dtype": program.dtype,
        "date": datetime.now(UTC).date().isoformat(),
        "jax": jax.__version__,
        "compiler": f"{compiler} {importlib.metadata.version(compiler)}",
        "error": error,
    }
    if not found:
        return values
    return values | {
        "seconds_to_compile": round(found.seconds, 1),
        "cycles": found.cycles,
        "milliseconds": found.ms,
        "flops": found.flops,
        "bytes": found.bytes,
        "floor_milliseconds": found.floor_ms,
        "ratio": found.ratio,
        "held_bytes": found.held,
        "working_bytes": found.working,
        "fits": found.held + found.working <= CHIPS[chip].memory,
        "kernels": found.kernels,
        "collectives": {kind: [sent.count, round(sent.bytes)] for kind, sent in found.sent.items()},
    }


def read(path: Path) -> list[dict]:
    """The rows of a file; none where there is no file.

    Raises:
      ConfigError: it is no such file.
    """
    try:
        return json.loads(path.read_text())["rows"] if path.exists() else []
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(f"--json must be a file that this command wrote, or a new one, got {path}") from None


def merge(path: Path, new: dict, order: list[str]) -> list[dict]:
    """Puts a row into a file in place of an earlier one of the same program and chip; the others stay.

    Args:
      order: titles, in which the rows are kept; others come last.
    """
    rows = [old for old in read(path) if _key(old) != _key(new)] + [new]
    place = {title: number for number, title in enumerate(order)}
    rows.sort(key=lambda each: (list(CHIPS).index(each["chip"]), place.get(title(each), len(place))))
    write_json(path, {"estimated": True, "rows": rows})
    return rows


def title(row: dict) -> str:
    """As `Program.title`."""
    return f"{row['kind']} {row['program']} {tuple(row['shape'])} {row['dtype']}"


def _key(row: dict) -> tuple[str, str]:
    return row["chip"], title(row)


COLUMNS = ("s to compile", "Mcycles", "ms", "GFLOP", "MB", "floor ms", "ratio", "held MB", "working MB", "collectives")
WIDTHS = (14, 10, 10, 10, 11, 10, 8, 10, 24, 13)


def cells(row: dict) -> list[str]:
    """The columns of `COLUMNS`; empty where a compiler says nothing."""
    if row["error"]:
        return [row["error"]]
    sent = ", ".join(f"{count} {kind} {_mega(size)} MB" for kind, (count, size) in row["collectives"].items())
    return [
        f"{row['seconds_to_compile']:.0f}",
        "" if row["cycles"] is None else _short(row["cycles"] / 1e6),
        "" if row["milliseconds"] is None else _short(row["milliseconds"]),
        _short(row["flops"] / 1e9),
        _mega(row["bytes"]),
        _short(row["floor_milliseconds"]),
        "" if row["ratio"] is None else _short(row["ratio"]),
        _mega(row["held_bytes"]),
        _mega(row["working_bytes"]) + ("" if row["fits"] else " (does not fit)"),
        sent or "none",
    ]


def header() -> str:
    return f"{'':<68}" + "".join(f"{name:>{width}}" for name, width in zip(COLUMNS, WIDTHS, strict=True))


def line(row: dict) -> str:
    """A row for the terminal."""
    if row["error"]:
        return f"{title(row):<68}  {row['error']}"
    return f"{title(row):<68}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells(row), WIDTHS, strict=True))


def markdown(rows: list[dict]) -> str:
    """A table for each chip and kind of program."""
    parts = []
    for chip in dict.fromkeys(each["chip"] for each in rows):
        mine = [each for each in rows if each["chip"] == chip]
        days, versions = (sorted({each[name] for each in mine}) for name in ("date", "compiler"))
        when = " to ".join(days[:: max(1, len(days) - 1)])
        parts.append(f"## {CHIPS[chip].title}\n\nJAX {mine[0]['jax']}, {', '.join(versions)}, {when}.")
        for kind, name in KINDS.items():
            if some := [each for each in mine if each["kind"] == kind]:
                parts.append(_table(name, some))
    return "\n\n".join(parts)


def _table(name: str, rows: list[dict]) -> str:
    timed = any(each.get("cycles") is not None for each in rows)
    shown = [number for number, column in enumerate(COLUMNS[:-1]) if timed or column not in ("Mcycles", "ms", "ratio")]
    names = [COLUMNS[number] for number in shown] + ([] if timed else ["kernels"])
    lines = [f"**{name}**\n", f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for each in rows:
        what = title(each).removeprefix(each["kind"] + " ")
        if each["error"]:
            lines.append(f"| {what} | {each['error']} |" + " |" * (len(names) - 1))
            continue
        values = cells(each)
        found = [values[number] for number in shown]
        found += [] if timed else [", ".join(f"{count} {sort}" for sort, count in each["kernels"].items())]
        lines.append(f"| {what} | {' | '.join(found)} |")
    return "\n".join(lines)


def write_page(page: Path, rows: list[dict]) -> None:
    """Puts the tables between the two marks of a page.

    Raises:
      ConfigError: it has no marks.
    """
    first, last = "<!-- python -m benchmarks.compile --report -->", "<!-- end -->"
    text = page.read_text()
    if not re.search(re.escape(first) + ".*" + re.escape(last), text, flags=re.S):
        raise ConfigError(f"{page} must have the lines {first} and {last}, between which the tables go")
    before, after = text.split(first)[0], text.split(first)[1].split(last)[1]
    page.write_text(f"{before}{first}\n\n{markdown(rows)}\n\n{last}{after}")


def picture(path: Path, rows: list[dict]) -> None:
    """Bars of estimated milliseconds, and the roofline's floor marked in each, where a compiler estimates."""
    rows = [each for each in rows if each.get("milliseconds")]
    if not rows:
        return
    figure = Figure(figsize=(11, 1.5 + 0.22 * len(rows)), layout="constrained")
    axes, places = figure.subplots(), range(len(rows))
    colors = [f"C{list(CHIPS).index(each['chip'])}" for each in rows]
    axes.barh(places, [each["milliseconds"] for each in rows], color=colors, alpha=0.8, label="estimated")
    floors = [each["floor_milliseconds"] for each in rows]
    axes.plot(floors, places, "k|", markersize=9, markeredgewidth=2, label="roofline's floor")
    axes.set(xscale="log", xlabel="milliseconds", title="estimated by the TPU compiler, not measured")
    axes.set_yticks(places, [f"{each['chip']} {title(each)}" for each in rows], fontsize=7)
    axes.invert_yaxis()
    axes.grid(alpha=0.3, axis="x", which="both")
    axes.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _short(value: float) -> str:
    """Three digits, at most two of them behind the point below 10."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def _mega(size: float) -> str:
    return _short(size / 1e6)
