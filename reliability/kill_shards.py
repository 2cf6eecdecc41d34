"""Kill the shard writer at random moments, and compare what it leaves in the end with an undisturbed run.

    python -m reliability.kill_shards --config experiments/gsm8k_distill_smollm2.py --kills 10 \
        --set data.num_problems=40 data.length=64 data.loss_on=all distillation.rows_per_shard=1

Prints how many kills hit a living writer, and whether every file is the same byte for byte; exit status 1 if not.
"""

import hashlib
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import command_line


def digests(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


def main(argv=None) -> int:
    parser = command_line.parser(__doc__)
    parser.add_argument("--config", default="experiments/gsm8k_distill_smollm2.py")
    parser.add_argument("--kills", type=command_line.count, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--set", nargs="*", default=[], metavar="a.b=value", help="further fields")
    args = parser.parse_args(argv)
    command = [sys.executable, "-m", "fftnet_jax.distillation.shards", "--config", args.config]
    command += [f"--config.{field}" for field in args.set]
    rng, hits = random.Random(args.seed), 0
    with tempfile.TemporaryDirectory() as base:
        whole, killed = Path(base) / "undisturbed", Path(base) / "killed"
        start = time.monotonic()
        run = [*command, f"--config.distillation.shards={whole}"]
        subprocess.run(run, check=True, stderr=subprocess.DEVNULL)
        seconds = time.monotonic() - start
        print(f"undisturbed: {seconds:.1f} s, {len(digests(whole)) - 1} shards", flush=True)
        run = [*command, f"--config.distillation.shards={killed}"]
        for number in range(args.kills):
            before = len(list(killed.glob("*.bin")))
            process = subprocess.Popen(run, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            # Every third at any moment from the start, the others while shards are being written.
            limit = time.monotonic() + (rng.uniform(0, 20) if number % 3 == 0 else 120)
            while process.poll() is None and time.monotonic() < limit and len(list(killed.glob("*.bin"))) == before:
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.5))
            hits += process.poll() is None
            process.kill()
            process.wait()
            print(f"kill {number + 1}: {len(list(killed.glob('*.bin')))} shards are there", flush=True)
        subprocess.run(run, check=True, stderr=subprocess.DEVNULL)
        same = digests(whole) == digests(killed)
    print(f"{hits} of {args.kills} kills hit a living writer; same bytes: {same}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(command_line.run(main))
