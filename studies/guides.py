"""Learning from the teacher itself, from its shards, and from the text alone: final losses and peak memory.

    python -m studies.guides --folder GSM8K --problems 96

Trains the student of `--config` on a few problems once each way, in processes of their own, one after the other, and
prints validation losses, seconds and the peak resident memory. Writes `studies/results/guides.json`.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import command_line
from benchmarks.timing import hardware, write_json
from fftnet_jax.runs.folder import read_metrics

ROOT = Path(__file__).parents[1]


def run(command: list[str]) -> tuple[float, float]:
    """Seconds and peak resident MiB of a process; its messages are shown if it fails."""
    start = time.monotonic()
    with tempfile.TemporaryFile() as messages:
        process = subprocess.Popen(command, cwd=ROOT, stdout=messages, stderr=messages)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            messages.seek(0)
            sys.exit(messages.read().decode(errors="replace")[-2000:])
    return time.monotonic() - start, usage.ru_maxrss / 1024


def main(argv=None) -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--config", default="experiments/gsm8k_distill_smollm2.py")
    parser.add_argument("--folder", default="", help="GSM8K's folder; by default from the Hugging Face hub")
    parser.add_argument("--problems", type=command_line.count, default=96)
    parser.add_argument("--temperatures", nargs="+", type=command_line.rate, default=[1.0, 2.0])
    parser.add_argument("--top_k", type=int, default=64)
    parser.add_argument("--set", nargs="*", default=[], metavar="a.b=value", help="further fields, for every run")
    args = parser.parse_args(argv)
    ways = [("plain", 1.0), *((way, t) for t in args.temperatures for way in ("shards", "online"))]
    rows = []
    with tempfile.TemporaryDirectory() as base:
        fields = [f"data.folder={args.folder}", f"data.num_problems={args.problems}", *args.set]
        common = ["--config", args.config, *(f"--config.{field}" for field in fields)]
        for way, temperature in ways:
            shards = f"{base}/shards-{temperature:g}" if way == "shards" else ""
            flags = [*common, f"--config.distillation.temperature={temperature}"]
            flags += [f"--config.distillation.top_k={args.top_k}", f"--config.distillation.shards={shards}"]
            if way == "plain":
                flags.append("--config.distillation.alpha=1.0")
            if way == "shards":
                run([sys.executable, "-m", "fftnet_jax.distillation.shards", *flags])
            workdir = Path(base) / f"{way}-{temperature:g}"
            seconds, peak = run([sys.executable, "train.py", *flags, "--workdir", str(workdir)])
            loss = [row["val/loss"] for row in read_metrics(workdir / "metrics.jsonl") if "val/loss" in row][-1]
            rows.append({"way": way, "temperature": temperature, "validation_loss": loss, "seconds": seconds})
            rows[-1]["peak_mib"] = peak
            print(f"{way:<8} T {temperature:g}  loss {loss:.5f}  {seconds:7.1f} s  peak {peak:7.0f} MiB", flush=True)
    settings = {"config": args.config, "problems": args.problems, "set": args.set, "top_k": args.top_k}
    write_json(ROOT / "studies/results/guides.json", {**settings, "hardware": hardware(), "rows": rows})


if __name__ == "__main__":
    sys.exit(command_line.run(main))
