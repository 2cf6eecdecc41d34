"""Writes docs/benchmarks.md from the files in benchmarks/results, which the other benchmarks write.

python -m benchmarks.report
"""

import importlib
import json
import sys
from pathlib import Path

from benchmarks import command_line

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("mixers", "scaling", "plans", "train_step", "loss", "decode", "teacher")
HEADER = """# Benchmarks

Contenders of a table took turns in one process; `ratio` is the median of the round-by-round ratios to the row whose
ratio is 1, so a slow spell of the machine meets all of them. A turn starts with a call that is not timed, unless it
takes 8 s (24 s for train steps), which would pay for what the contender before left in caches and memory. The table of
scaling has that only ahead of calls under half a second, those from before 2026-11-26 nowhere. Train steps "as train.py
runs it" ran in a process of their own with larger pages of memory, which `train.py` asked for until 2026-11-26; they
are to be measured again. Peak memory is that of a process of its own: what existed before the work plus what the work
added. Rows with "torch" need `pip install -e '.[peers]'`.

This page is written by `python -m benchmarks.report` from `benchmarks/results/`. No accelerator was at hand: there are
no such rows.
"""


def section(name: str, content: dict) -> str:
    """Markdown for one benchmark's results."""
    machine = content["hardware"]
    about = importlib.import_module(f"benchmarks.{name}").__doc__.split("\n\n    ")[0].strip()
    where = f"{machine['cores']} × {machine['cpu']}, {machine['device']}, JAX {machine['jax']}"
    torch = f", PyTorch {machine['torch']}" if "torch" in machine else ""
    arguments = content["arguments"]
    flags = [f"--rounds {arguments['rounds']}"] * bool(arguments["rounds"]) + ["--no_memory"] * arguments["no_memory"]
    command = " ".join([f"python -m benchmarks.{name}", *flags])
    title = f"## {name}\n\n{about}\n\n`{command}` · {where}{torch}, Python {machine['python']}, {machine['date'][:10]}"
    return "\n\n".join([title, f"![{name}](bench_{name}.png)", *(table(case) for case in content["cases"])])


def table(case: dict) -> str:
    """Markdown for one case."""
    lines = [f"**{case['name']}**\n", "| | median | min to max | ratio | peak memory |", "|---|---|---|---|---|"]
    for row in case["rows"]:
        peak = f"{row['peak_bytes'] / 2**20:,.0f} MiB" if row["peak_bytes"] is not None else ""
        low, middle, high = (f"{row[key] * 1e3:,.2f}" for key in ("min", "median", "max"))
        lines.append(f"| {row['name']} | {middle} ms | {low} to {high} | {row['ratio']:.2f} | {peak} |")
    return "\n".join(lines)


def main(argv=None) -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--folder", default=str(ROOT), help="that has benchmarks/results and docs")
    folder = Path(parser.parse_args(argv).folder)
    parts = [HEADER.rstrip()]
    for name in NAMES:
        path = folder / f"benchmarks/results/{name}.json"
        if path.exists():
            parts.append(section(name, json.loads(path.read_text())))
    page = folder / "docs/benchmarks.md"
    page.write_text("\n\n".join(parts) + "\n")
    print(page)


if __name__ == "__main__":
    sys.exit(command_line.run(main))
