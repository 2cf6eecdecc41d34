"""A long run of a tiny model, watched from outside: do memory and open files stay flat?

    python -m reliability.soak

`train.py` does 20,000 steps with evaluation, checkpoints, pictures and TensorBoard on. Four times a second its memory
and its open files are read from /proc, with the step of its metrics file. Flat means, after the first 1,000 steps: the
median memory of the last 1,000 steps is at most 5% above that of steps 1,000 to 2,000, that of open files at most 2.
Writes `reliability/results/soak.json` and `docs/soak.png`; exit status 1 if anything grew. Linux only.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from matplotlib.figure import Figure
from tqdm import tqdm

from benchmarks import command_line
from benchmarks.timing import hardware
from fftnet_jax.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = (
    "model.width=16",
    "model.num_layers=1",
    "model.ffn_width=32",
    "model.filter_modes=8",
    "data.length=32",
    "data.batch_size=4",
    "training.eval_every=500",
    "training.checkpoint_every=250",
    "training.log_every=20",
    "training.histogram_every=500",
    "sample.max_new_tokens=16",
)
GROWTH, FILES, POINTS = 1.05, 2, 300


def watch(steps: int, workdir: Path) -> list[tuple[float, int, int, int]]:
    """(seconds, step, bytes of resident memory, open files), four times a second while the run lasts."""
    command = [sys.executable, "train.py", "--config", "experiments/shakespeare.py", "--workdir", str(workdir)]
    command += [f"--config.{value}" for value in (*SETTINGS, f"training.num_steps={steps}")]
    with (workdir.parent / "said").open("w+") as said:
        run = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=said)
        series, start, page = [], time.monotonic(), os.sysconf("SC_PAGE_SIZE")
        try:
            with tqdm(total=steps, unit="step") as bar:
                while run.poll() is None:
                    time.sleep(0.25)
                    try:
                        memory = int(Path(f"/proc/{run.pid}/statm").read_text().split()[1]) * page
                        files = len(os.listdir(f"/proc/{run.pid}/fd"))
                    except (OSError, IndexError):  # it ended meanwhile
                        continue
                    step = last_step(workdir / "metrics.jsonl")
                    series.append((time.monotonic() - start, step, memory, files))
                    bar.update(step - bar.n)
        finally:
            run.kill()
        said.seek(0)
        if run.wait():
            raise SystemExit(f"error: the run failed\n{said.read()[-2000:]}")
    return series


def last_step(metrics: Path) -> int:
    """The step of the last whole line, 0 before there is one; reads the file's end only."""
    try:
        with metrics.open("rb") as file:
            file.seek(max(0, metrics.stat().st_size - 4096))
            lines = file.read().split(b"\n")[:-1]
        return json.loads(lines[-1])["step"]
    except (OSError, IndexError, ValueError):
        return 0


def verdict(series: list, steps: int) -> dict:
    """Medians of memory (bytes) early and late, growth per 1,000 steps, and medians of open files."""
    early = [point for point in series if 1000 <= point[1] < 2000]
    late = [point for point in series if point[1] >= steps - 1000]
    medians = [statistics.median(point[2] for point in part) for part in (early, late)]
    rest = [point for point in series if point[1] >= 1000]
    slope = statistics.linear_regression([p[1] for p in rest], [p[2] for p in rest]).slope
    files = [statistics.median(point[3] for point in part) for part in (early, late)]
    flat = medians[1] <= GROWTH * medians[0] and files[1] <= files[0] + FILES
    return {"memory": medians, "growth_per_1000_steps": slope * 1000, "open_files": files, "flat": flat}


def plot(series: list, file: Path) -> None:
    """Resident memory and open files against the step."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    left = figure.add_subplot()
    left.plot([p[1] for p in series], [p[2] / 2**20 for p in series], color="#08519c")
    left.set(xlabel="step", ylabel="resident memory, MiB", ylim=(0, None))
    left.set_title(f"{series[-1][1]:,} steps with evaluation, checkpoints and TensorBoard")
    right = left.twinx()
    right.plot([p[1] for p in series], [p[3] for p in series], color="#d94801", linewidth=0.8)
    right.set(ylabel="open files", ylim=(0, None))
    left.yaxis.label.set_color("#08519c")
    right.yaxis.label.set_color("#d94801")
    figure.savefig(file, dpi=120)


def main(argv=None) -> int:
    parser = command_line.parser(__doc__)
    parser.add_argument("--steps", type=int, default=20_000, help="at least 3,000 (default: %(default)s)")
    parser.add_argument("--folder", default=str(ROOT), help="that has reliability/results and docs")
    args = parser.parse_args(argv)
    if args.steps < 3000:
        raise ConfigError(f"--steps must be at least 3000, got {args.steps}")
    folder = Path(args.folder)
    for name in ("reliability/results", "docs"):
        if not (folder / name).is_dir():
            raise ConfigError(f"--folder must be one that has {name}, got {args.folder}")
    with tempfile.TemporaryDirectory() as work:
        series = watch(args.steps, Path(work) / "run")
    found = verdict(series, args.steps)
    every = -(-len(series) // POINTS)
    columns = ("seconds", "step", "bytes", "open_files")
    values = {"hardware": hardware(), "steps": args.steps, "settings": SETTINGS, **found, "columns": columns}
    values |= {"series": [[round(p[0], 1), *p[1:]] for p in series[::every]]}
    (folder / "reliability/results/soak.json").write_text(json.dumps(values) + "\n")
    plot(series, folder / "docs/soak.png")
    early, late = (f"{value / 2**20:.1f}" for value in found["memory"])
    print(f"resident memory {early} MiB at steps 1,000 to 2,000, {late} MiB at the last 1,000", end=", ")
    print(f"{found['growth_per_1000_steps'] / 2**10:+.1f} KiB per 1,000 steps; open files {found['open_files']}")
    print("flat" if found["flat"] else "NOT flat")
    return 0 if found["flat"] else 1


if __name__ == "__main__":
    sys.exit(command_line.run(main, stopped="stopped; nothing was written"))
