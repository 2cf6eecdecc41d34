"""Time of a whole train step for several mixers under one configuration, in turns.

    python -m benchmarks.train_step --config experiments/tinyshakespeare_char.py --mixers causal_fftnet attention

Prints the median and the spread of the rounds, tokens per second, and each mixer's time over the last one's.
"""

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import jax
import numpy as np

from fftnet_jax.config import load_config
from fftnet_jax.models import build_model
from fftnet_jax.training.load import resolve_sizes
from fftnet_jax.training.optimizer import build_optimizer, learning_rate_schedule
from fftnet_jax.training.sharding import build_mesh
from fftnet_jax.training.state import init_state
from fftnet_jax.training.step import make_train_step


class Contender:
    """One mixer's compiled train step and its state, on random tokens."""

    def __init__(self, args, mixer: str):
        config = resolve_sizes(load_config(args.config, [f"model.mixer={mixer}", *args.set]), args.vocab_size)
        model, t = build_model(config.model), config.training
        optimizer = build_optimizer(t, learning_rate_schedule(t, t.num_steps, t.num_steps))
        self.state = init_state(model, optimizer, 0, build_mesh())
        self.step = jax.jit(make_train_step(model, optimizer, 0, t.accumulation), donate_argnums=0)
        shape = (config.data.batch_size, config.data.length)
        ids = np.random.default_rng(0).integers(0, args.vocab_size, shape, np.int32)
        self.batch = {"inputs": ids, "targets": ids, "weights": np.ones(shape, np.float32)}
        self.tokens, self.seconds = ids.size, []
        self.run(2)  # compilation
        self.seconds.clear()

    def run(self, steps: int) -> None:
        start = time.perf_counter()
        for _ in range(steps):
            self.state, metrics = self.step(self.state, self.batch)
        jax.block_until_ready(metrics)
        self.seconds.append((time.perf_counter() - start) / steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="experiments/tinyshakespeare_char.py")
    parser.add_argument("--mixers", nargs="+", default=["causal_fftnet", "attention"])
    parser.add_argument("--set", nargs="*", default=[], metavar="a.b=value", help="further fields, for every mixer")
    parser.add_argument("--vocab_size", type=int, default=65)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=10, help="steps a round")
    parser.add_argument("--output", default="benchmarks/results/train_step.json")
    args = parser.parse_args()
    contenders = {mixer: Contender(args, mixer) for mixer in args.mixers}
    for _ in range(args.rounds):
        for contender in contenders.values():
            contender.run(args.steps)
    last = list(contenders.values())[-1].seconds
    print(f"{'mixer':<16}{'ms/step':>9}{'min':>8}{'max':>8}{'tokens/s':>10}{'ratio':>8}")
    rows = []
    for mixer, c in contenders.items():
        median = statistics.median(c.seconds)
        ratio = statistics.median(a / b for a, b in zip(c.seconds, last, strict=True))  # round by round
        low, high = min(c.seconds) * 1e3, max(c.seconds) * 1e3
        print(f"{mixer:<16}{median * 1e3:>9.1f}{low:>8.1f}{high:>8.1f}{c.tokens / median:>10,.0f}{ratio:>8.2f}")
        rows.append({"mixer": mixer, "seconds": c.seconds, "ratio": ratio})
    hardware = {"platform": platform.platform(), "device": str(jax.devices()[0]), "jax": jax.__version__}
    Path(args.output).parent.mkdir(parents=True, exist_ok=True)
    Path(args.output).write_text(json.dumps({"config": args.config, **hardware, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
