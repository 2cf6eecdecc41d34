"""Whether the planner of the STFT mixer chooses the fastest of its options, over many shapes.

    python -m benchmarks.plans
    python -m benchmarks.plans --only W512

float32, forward and backward, the map alone. The first row of a table is the planner's choice; options that it thinks
three times slower are left out. A ratio below 1 is an option that would have been faster.
"""

import re
import sys
from functools import partial
from pathlib import Path

import jax
from matplotlib.figure import Figure

from benchmarks import command_line
from benchmarks.timing import Case, benchmark, forward_backward, random_input
from fftnet_jax.ops.stft_plan import FORMS
from fftnet_jax.spectral import STFTPlan, causal_stft, plan_stft

GRID = (  # B, N, D, W
    (8, 256, 256, 32),
    (8, 1024, 256, 64),
    (2, 128, 512, 512),
    (8, 4096, 128, 32),
    (8, 4096, 128, 256),
    (1, 64, 64, 8),
    (4, 512, 64, 16),
    (16, 128, 128, 128),
    (1, 1024, 64, 512),
    (32, 64, 64, 4),
    (2, 2048, 128, 2),
    (1, 256, 512, 16),
    (4, 300, 96, 48),
    (2, 512, 384, 100),
    (2, 100, 200, 1),
)
HOPELESS = 3.0


def cases(args) -> list[Case]:
    return [_case(*shape) for shape in (((2, 16, 8, 4),) if args.quick else GRID)]


def _case(batch, length, width, window):
    chosen = plan_stft(batch, length, width, window)
    options = [chosen, *(plan for plan in chosen.others if plan.seconds < HOPELESS * chosen.seconds)]
    contenders = {plan.name(): partial(contender, batch, length, width, window, plan) for plan in options}
    return Case(f"B{batch} N{length} D{width} W{window}", batch * length, contenders)


def contender(batch: int, length: int, width: int, window: int, plan: STFTPlan):
    weight_WDO = jax.random.normal(jax.random.key(2), (window, width, width)) / width
    return forward_backward(
        lambda weight_WDO, x_BND: causal_stft(x_BND, weight_WDO, plan=plan),
        weight_WDO,
        random_input(batch, length, width),
    )


def picture(path: Path, title: str, tables: list[dict]) -> None:
    """Each option's time over that of the choice, by form."""
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    axes = figure.subplots()
    for form, marker in zip(FORMS, "osD^", strict=True):
        points = [
            (place, row["ratio"])
            for place, table in enumerate(tables)
            for row in table["rows"][1:]
            if row["name"].startswith(form)
        ]
        axes.plot(*zip(*points, strict=True) if points else ((), ()), marker=marker, linestyle="none", label=form)
    chosen = [f"{table['name']}\n{table['rows'][0]['name'].split()[0].rstrip(',')}" for table in tables]
    axes.set_xticks(range(len(tables)), [re.sub("[ _]", "\n", name) for name in chosen], fontsize=7)
    axes.axhline(1, color="black", label="the choice")
    axes.axhline(1 / 1.15, color="black", linestyle=":", label="15% faster")
    axes.set(title=title, ylabel="time over the choice's", yscale="log")
    axes.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main(argv=None) -> None:
    tables = benchmark("plans", cases, __doc__, argv, picture=picture)
    worst = max(tables, key=lambda table: 1 / min(row["ratio"] for row in table["rows"]))
    slower = 1 / min(row["ratio"] for row in worst["rows"])
    print(f"\nthe choice is at most {slower - 1:.0%} slower than the best option ({worst['name']})")


if __name__ == "__main__":
    sys.exit(command_line.run(main))
