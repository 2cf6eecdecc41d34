"""Kill a training run at random moments, again and again, and compare what it is in the end with an undisturbed one.

    python -m reliability.chaos --kills 25

Both runs are `train.py` on a small model, 300 steps, with checkpoints and evaluations. A third of the kills come while
a checkpoint is being written, a third during evaluation, the others anywhere, from the start on. Compared are the bytes
of parameters and optimiser, the position in the data, the test figures, and the metrics file but for tokens per second.
Prints a line a kill and writes `reliability/results/chaos.json`; exit status 1 if anything differs.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from tqdm import tqdm

from benchmarks import command_line
from benchmarks.timing import hardware, write_json
from fftnet_jax.runs.checkpoints import step_folders
from fftnet_jax.runs.folder import read_metrics
from fftnet_jax.runs.seal import is_sealed

ROOT = Path(__file__).resolve().parents[1]
# Trains like train.py, and says in the file $PHASE what it is at, that kills can aim.
PROGRAM = """
import os, sys
import train
from fftnet_jax.runs.checkpoints import Checkpoints
from fftnet_jax.training.run import Run

def told(kind, method):
    def tell(*args, **kwargs):
        open(os.environ["PHASE"], "w").write(kind)
        result = method(*args, **kwargs)
        open(os.environ["PHASE"], "w").write("train")
        return result
    return tell

Run.validate = told("evaluate", Run.validate)
Checkpoints._seal = told("checkpoint", Checkpoints._seal)
sys.exit(train.main(sys.argv[1:]))
"""
SETTINGS = (
    "model.width=32",
    "model.num_layers=2",
    "model.ffn_width=64",
    "data.length=32",
    "data.batch_size=8",
    "training.eval_every=30",
    "training.checkpoint_every=10",
    "training.log_every=5",
    "sample.max_new_tokens=20",
    "data.split=0.97,0.03",
)
PHASES = ("checkpoint", "evaluate", "anywhere")


def main(argv: list[str] | None = None) -> int:
    parser = command_line.parser(__doc__)
    parser.add_argument("--config", default="experiments/shakespeare.py", help="experiment file")
    parser.add_argument("--kills", type=command_line.count, default=25)
    parser.add_argument("--steps", type=command_line.count, default=300)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--set", nargs="*", default=[], metavar="a.b=value", help="further fields")
    parser.add_argument("--folder", default=".", help="where reliability/results is written")
    args = parser.parse_args(argv)
    fields = [*SETTINGS, f"training.num_steps={args.steps}", *args.set]
    command = [sys.executable, "-c", PROGRAM, "--config", args.config, *(f"--config.{field}" for field in fields)]
    with tempfile.TemporaryDirectory() as base:
        base = Path(base)
        # Compiled once: what is killed is training, not compilation.
        os.environ |= {"PHASE": str(base / "phase"), "JAX_COMPILATION_CACHE_DIR": str(base / "jax")}
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        whole, killed = base / "undisturbed", base / "killed"
        start = time.monotonic()
        finish([*command, "--workdir", str(whole)])
        print(f"undisturbed: {time.monotonic() - start:.1f} s", flush=True)
        command += ["--workdir", str(killed)]
        rng = random.Random(args.seed)
        kills = [kill(command, killed, base / "phase", rng, n) for n in tqdm(range(args.kills), unit="kill")]
        finish(command)
        same = compare(whole, killed)
    hits = sum(k["alive"] and k["checkpoints"] > 0 for k in kills)
    print(f"{hits} of {args.kills} kills hit a live process past its first checkpoint")
    print("\n".join(f"{name}: {'the same' if equal else 'DIFFERENT'}" for name, equal in same.items()))
    values = {"hardware": hardware(), "kills": kills, "hits": hits, "same": same, "steps": args.steps}
    write_json(Path(args.folder) / "reliability/results/chaos.json", values)
    return 0 if all(same.values()) else 1


def finish(command: list[str]) -> None:
    """Runs to the end; what it printed is shown if it fails."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)


def kill(command: list[str], workdir: Path, phase_file: Path, rng: random.Random, number: int) -> dict:
    """Starts the run, kills it, and says where it was."""
    before, wanted = last_step(workdir), PHASES[number % len(PHASES)]
    phase_file.write_text("start")
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    limit = time.monotonic() + 300
    anywhere = time.monotonic() + rng.uniform(0, 12)
    reached = before + rng.randrange(1, 12)  # the run must get on in spite of all kills
    while process.poll() is None and time.monotonic() < limit:
        phase = phase_file.read_text()
        if wanted == "anywhere" and time.monotonic() > anywhere:
            break
        if phase == wanted and last_step(workdir) >= reached:
            time.sleep(rng.uniform(0, 0.03))
            break
        time.sleep(0.002)
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    sealed = sum(is_sealed(folder) for folder in step_folders(workdir / "checkpoints"))
    return {
        "aim": wanted,
        "phase": phase_file.read_text() or "anywhere",
        "alive": alive,
        "checkpoints": sealed,
        "step": last_step(workdir),
        "half_written": len(list((workdir / "checkpoints").glob("*tmp*"))),
    }


def last_step(workdir: Path) -> int:
    file = workdir / "metrics.jsonl"
    return max((row["step"] for row in read_metrics(file)), default=0) if file.exists() else 0


def compare(whole: Path, killed: Path) -> dict[str, bool]:
    """What is the same in two finished runs."""
    metrics = [read_metrics(folder / "metrics.jsonl") for folder in (whole, killed)]
    for rows in metrics:
        for row in rows:
            row.pop("tokens_per_second")
    states, data = zip(*(contents(folder) for folder in (whole, killed)), strict=True)
    return {
        "metrics": metrics[0] == metrics[1],
        "parameters and optimiser": states[0] == states[1],
        "position in the data": data[0] == data[1],
        "test figures": len({(folder / "test_metrics.json").read_text() for folder in (whole, killed)}) == 1,
    }


def contents(workdir: Path) -> tuple[list[bytes], list[bytes]]:
    """Bytes of every array of the last checkpoint, and of its state of the data."""
    last = step_folders(workdir / "checkpoints")[-1]
    arrays = []
    for item in ("params", "rest"):
        with ocp.StandardCheckpointer() as checkpointer:
            arrays += [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(checkpointer.restore(last / item))]
    return arrays, [file.read_bytes() for file in sorted((last / "data").rglob("*")) if file.suffix == ".json"]


if __name__ == "__main__":
    sys.exit(command_line.run(main))
