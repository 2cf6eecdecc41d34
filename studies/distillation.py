"""Does distillation help? One student from scratch and distilled, with the same tokens, steps and number of trials.

    python -m fftnet_jax.distillation.shards --config experiments/gsm8k_distill_smollm2.py
    python -m studies.distillation --config experiments/gsm8k_distill_smollm2.py

First one run per trial of each side with the first seed, then the other seeds with each side's best trial, chosen by
the loss on problems held out from training. Only then the test set is read: the cross-entropy on the whole answers of
all its problems (none cut, whatever `data.length` was in training). Writes every run to
`studies/results/distillation.json` and the curves to `docs/distillation.png`. A finished run in `--workdir` is read,
not repeated.
"""

import dataclasses
import json
import math
import statistics
import sys
import time
from pathlib import Path

import jax
from matplotlib.figure import Figure

from benchmarks import command_line
from benchmarks.timing import hardware, write_json
from fftnet_jax.config import load_config
from fftnet_jax.parallel.mesh import build_mesh
from fftnet_jax.runs.folder import read_metrics
from fftnet_jax.tasks import load_dataset
from fftnet_jax.training import load, train
from fftnet_jax.training.evaluation import make_evaluate

SIDES = ("scratch", "distilled")
WHOLE = 512  # tokens: longer than any problem


def measure(args, side: str, trial: dict, seed: int) -> dict:
    """Validation losses (nats per answer token), seconds and parameters of one run."""
    label = "-".join(f"{name.split('.')[1]}{value:g}" for name, value in trial.items())
    workdir = Path(args.workdir) / f"{side}-{label}-seed{seed}"
    report = workdir / "report.json"
    if not report.exists():
        alpha = ["distillation.alpha=1.0"] if side == "scratch" else []
        overrides = [*args.set, *alpha, *(f"{name}={value}" for name, value in trial.items()), f"seed={seed}"]
        start = time.monotonic()
        train(load_config(args.config, overrides), workdir)
        seconds = time.monotonic() - start
        rows = [row for row in read_metrics(workdir / "metrics.jsonl") if "val/loss" in row]
        curve = [[row["step"], row["val/loss"]] for row in rows]
        best = min(loss for _, loss in curve)
        values = {"side": side, **trial, "seed": seed, "best": best, "last": curve[-1][1], "curve": curve}
        report.write_text(json.dumps({**values, "seconds": seconds, "workdir": str(workdir)}))
    return json.loads(report.read_text())


def test(run: dict) -> dict:
    """The run with its best parameters' figures on the whole test set, read once."""
    report = Path(run["workdir"]) / "test.json"
    if not report.exists():
        found = load(run["workdir"])
        data = dataclasses.replace(found.config.data, length=WHOLE)
        dataset = load_dataset(data)
        sums = make_evaluate(found.model, found.config.data.batch_size, build_mesh())(found.params, dataset.test)
        nats, tokens = sums["loss"] / dataset.characters["test"], int(sums["count"])
        count = sum(leaf.size for leaf in jax.tree.leaves(found.params))
        figures = {"test": sums["loss"] / tokens, "test_per_character": nats, "test_tokens": tokens}
        report.write_text(json.dumps({**figures, "parameters": count, "step": found.step}))
    return {**run, **json.loads(report.read_text())}


def trials_of(args) -> dict[str, list[dict]]:
    """The settings that each side tries, as many on either."""
    trials = {"scratch": [{"training.learning_rate": rate} for rate in args.scratch]}
    names = ("training.learning_rate", "distillation.alpha", "distillation.temperature")
    trials["distilled"] = [dict(zip(names, map(float, trial.split(":")), strict=True)) for trial in args.distilled]
    return trials


def report(runs: list[dict], final: dict[str, list[dict]]) -> dict:
    print(f"\n{'side':<11}{'rate':>8}{'alpha':>7}{'T':>4}{'seed':>5}{'best val':>10}{'last val':>10}{'seconds':>9}")
    for run in runs:
        alpha, temperature = run.get("distillation.alpha", 1.0), run.get("distillation.temperature", math.nan)
        print(
            f"{run['side']:<11}{run['training.learning_rate']:>8g}{alpha:>7g}{temperature:>4g}{run['seed']:>5}"
            f"{run['best']:>10.4f}{run['last']:>10.4f}{run['seconds']:>9.0f}"
        )
    means = {}
    for side, tested in final.items():
        for name in ("best", "test", "test_per_character"):
            values = [run[name] for run in tested]
            means[f"{side} {name}"] = [statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0]
        (loss, spread), (nats, nats_spread) = means[f"{side} test"], means[f"{side} test_per_character"]
        print(
            f"{side}: {len(tested)} seeds, test {loss:.4f} ± {spread:.4f} nats per token, "
            f"{nats:.4f} ± {nats_spread:.4f} per character"
        )
    return means


def _named(run: dict) -> dict:
    """Without the place on this machine."""
    return {**run, "workdir": Path(run["workdir"]).name}


def plot(final: dict[str, list[dict]], path: Path) -> None:
    """Loss on the held-out problems against the step, a line a seed."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for side, colour in zip(SIDES, ("#d95f02", "#1b9e77"), strict=True):
        for index, run in enumerate(final[side]):
            label = side if index == 0 else None
            axes.plot(*zip(*run["curve"], strict=True), color=colour, marker="o", markersize=4, label=label)
    axes.set(xlabel="step", ylabel="nats per answer token", title="GSM8K, problems held out from training")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def main(argv=None) -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--config", default="experiments/gsm8k_distill_smollm2.py")
    parser.add_argument("--scratch", nargs="+", type=command_line.rate, default=[0.012, 0.024], metavar="RATE")
    trials = ["0.012:0.5:1", "0.024:0.5:1"]
    parser.add_argument("--distilled", nargs="+", default=trials, metavar="RATE:ALPHA:T")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--set", nargs="*", default=[], metavar="a.b=value", help="further fields, for every run")
    parser.add_argument("--workdir", default="runs/distillation")
    parser.add_argument("--output", default="studies/results/distillation.json")
    parser.add_argument("--picture", default="docs/distillation.png")
    args = parser.parse_args(argv)
    trials = trials_of(args)
    if len(trials["scratch"]) != len(trials["distilled"]):
        parser.error(f"as many trials on either side, got {len(args.scratch)} and {len(args.distilled)}")
    runs = []
    for pair in zip(*(trials[side] for side in SIDES), strict=True):  # in turns: a slow spell meets both
        runs += [measure(args, side, trial, args.seeds[0]) for side, trial in zip(SIDES, pair, strict=True)]
    best = {side: min((run for run in runs if run["side"] == side), key=lambda run: run["best"]) for side in SIDES}
    final = {side: [best[side]] for side in SIDES}
    for seed in args.seeds[1:]:
        for side in SIDES:
            trial = {name: best[side][name] for name in trials[side][0]}
            final[side].append(measure(args, side, trial, seed))
            runs.append(final[side][-1])
    final = {side: [test(run) for run in final[side]] for side in SIDES}
    means = report(runs, final)
    plot(final, Path(args.picture))
    tested = {side: [_named(run) for run in final[side]] for side in SIDES}
    values = {"config": args.config, "hardware": hardware(), "means": means, "final": tested}
    write_json(Path(args.output), {**values, "runs": [_named(run) for run in runs]})


if __name__ == "__main__":
    sys.exit(command_line.run(main))
