"""Quality of mixers under one recipe: the same sizes, tokens and number of tuning trials for each.

    python -m studies.quality --config experiments/tinyshakespeare_char.py \
        --mixers causal_fftnet attention --learning_rates 0.0015 0.003 0.006 --seeds 0 1 2

First one run per mixer and learning rate with the first seed, then the other seeds at each mixer's
best rate. Prints a table and writes every run to `studies/results/quality.json`. A finished run in
`--workdir` is read, not repeated.
"""

import json
import statistics
import sys
import time
from pathlib import Path

from benchmarks import command_line
from benchmarks.timing import hardware, write_json
from fftnet_jax.config import load_config
from fftnet_jax.runs.folder import read_metrics
from fftnet_jax.training import train


def measure(args, mixer: str, rate: float, seed: int) -> dict:
    """Validation loss (nats per token, whole split), seconds and parameters of one run."""
    workdir = Path(args.workdir) / f"{mixer}-lr{rate:g}-seed{seed}"
    overrides = [f"model.mixer={mixer}", f"training.learning_rate={rate}", f"seed={seed}", *args.set]
    report = workdir / "quality.json"
    if not report.exists():
        start = time.monotonic()
        train(load_config(args.config, overrides), workdir)
        seconds = time.monotonic() - start
        rows = read_metrics(workdir / "metrics.jsonl")
        val = [row["val/loss"] for row in rows if "val/loss" in row]
        speed = statistics.median(row["tokens_per_second"] for row in rows)
        entry = {"mixer": mixer, "learning_rate": rate, "seed": seed, "best": min(val), "last": val[-1]}
        report.write_text(json.dumps({**entry, "seconds": seconds, "tokens_per_second": speed}))
    return json.loads(report.read_text())


def main(argv=None) -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--config", default="experiments/tinyshakespeare_char.py")
    parser.add_argument("--mixers", nargs="+", default=["causal_fftnet", "attention"])
    parser.add_argument("--learning_rates", nargs="+", type=command_line.rate, default=[0.0015, 0.003, 0.006])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--set", nargs="*", default=[], metavar="a.b=value", help="further fields, for every run")
    parser.add_argument("--workdir", default="runs/quality")
    parser.add_argument("--output", default="studies/results/quality.json")
    args = parser.parse_args(argv)
    runs, best = [], {}
    for rate in args.learning_rates:  # mixers in turns, so that a slow spell of the machine meets both
        runs += [measure(args, mixer, rate, args.seeds[0]) for mixer in args.mixers]
    for mixer in args.mixers:
        best[mixer] = min((run for run in runs if run["mixer"] == mixer), key=lambda run: run["last"])["learning_rate"]
    for seed in args.seeds[1:]:
        runs += [measure(args, mixer, best[mixer], seed) for mixer in args.mixers]
    print(f"\n{'mixer':<16}{'learning rate':>14}{'seed':>6}{'val loss':>10}{'seconds':>9}{'tokens/s':>10}")
    for run in sorted(runs, key=lambda run: (run["mixer"], run["learning_rate"], run["seed"])):
        print(
            f"{run['mixer']:<16}{run['learning_rate']:>14g}{run['seed']:>6}{run['last']:>10.4f}"
            f"{run['seconds']:>9.0f}{run['tokens_per_second']:>10,.0f}"
        )
    means = {}
    for mixer in args.mixers:
        losses = [run["last"] for run in runs if run["mixer"] == mixer and run["learning_rate"] == best[mixer]]
        means[mixer] = statistics.mean(losses)
        print(f"{mixer}: mean of {len(losses)} seeds at rate {best[mixer]:g}: {means[mixer]:.4f} nats per token")
    write_json(Path(args.output), {"config": args.config, "hardware": hardware(), "means": means, "runs": runs})


if __name__ == "__main__":
    sys.exit(command_line.run(main))
