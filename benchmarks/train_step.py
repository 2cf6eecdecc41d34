"""Time and peak memory of a whole train step: loss, gradients, clipping, optimiser.

    python -m benchmarks.train_step
    python -m benchmarks.train_step --setting original_b
    python -m benchmarks.train_step --setting experiment --config experiments/recall.py --mixers causal_fftnet attention

Settings: `experiment`, one configuration with several mixers (ratios are to the last one); `original_b`, the
causal STFT FNet from scratch (width 256, 4 layers, window 32, 50,257 tokens, batch 8 × 256); `original_a`,
FFTNet's defaults (width 128, 4 layers, 100,277 tokens, batch 64 × 128). The originals' have these rows: ours, the same
model with attention, and the original's computation in PyTorch. Random tokens, dropout as configured.
"""

import dataclasses
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np

from benchmarks import command_line
from benchmarks.timing import Case, Contender, benchmark, nbytes
from fftnet_jax.config import Config, DataConfig, ModelConfig, TrainingConfig, load_config
from fftnet_jax.models import build_model
from fftnet_jax.parallel.mesh import build_mesh
from fftnet_jax.runs.opening import resolve_sizes
from fftnet_jax.training.optimizer import build_optimizer, learning_rate_schedule
from fftnet_jax.training.state import init_state
from fftnet_jax.training.step import make_train_step

ADAMW = {"learning_rate": 1e-4, "weight_decay": 0.01, "beta2": 0.999, "schedule": "constant"}
TINY = {"vocab_size": 64, "width": 8, "num_layers": 1, "max_length": 16, "window": 4, "filter_width": 8}


def original_b() -> Config:
    """The causal STFT FNet as its project trains it from scratch, in float32."""
    model = ModelConfig(
        mixer="causal_stft",
        vocab_size=50_257,
        width=256,
        num_layers=4,
        ffn_width=1024,
        window=32,
        max_length=256,
        positions="learned",
        block_norm="post",
        norm_epsilon=1e-12,
        embedding_norm=True,
        final_norm=False,
        tie_head=False,
        dropout=0.1,
    )
    return Config(
        data=DataConfig(length=256, batch_size=8), model=model, training=TrainingConfig(clip_norm=0.0, **ADAMW)
    )


def original_a() -> Config:
    """FFTNet's default training."""
    model = ModelConfig(
        family="encoder",
        mixer="fftnet",
        vocab_size=100_277,
        width=128,
        num_layers=4,
        ffn_width=0,
        filter_width=512,
        max_length=128,
        positions="sinusoidal",
        embedding_scale=True,
        block_norm="both",
        tie_head=False,
        head_bias=True,
        dropout=0.1,
    )
    return Config(data=DataConfig(length=128, batch_size=64), model=model, training=TrainingConfig(**ADAMW))


SETTINGS = {"original_b": original_b, "original_a": original_a}


def step_contender(config: Config) -> Contender:
    """Our train step on random tokens; the state is donated and goes on from call to call."""
    model, t = build_model(config.model), config.training
    optimizer = build_optimizer(t, learning_rate_schedule(t, t.num_steps, t.num_steps))
    state = init_state(model, optimizer, 0, build_mesh())
    shape = (config.data.batch_size, config.data.length)
    ids_BN = np.random.default_rng(0).integers(0, config.model.vocab_size, shape, np.int32)
    batch = {"inputs": ids_BN, "targets": ids_BN, "weights": np.ones(shape, np.float32)}
    step = jax.jit(make_train_step(model, optimizer, 0, t.accumulation), donate_argnums=0)
    step = step.lower(state, batch).compile()
    now = {"state": state}

    def run():
        now["state"], metrics = step(now["state"], batch)
        jax.block_until_ready((now["state"], metrics))

    return Contender(run, held=nbytes(state))


def cases(args) -> list[Case]:
    found = [_original(args, name, SETTINGS[name]()) for name in args.setting if name in SETTINGS]
    if "experiment" in args.setting:
        found.insert(0, _experiment(args))
    return found


def _original(args, name, config):
    if args.quick:
        data, model = (dataclasses.replace(config.data, length=16, batch_size=2), TINY)
        config = dataclasses.replace(config, data=data, model=dataclasses.replace(config.model, **model))
    attention = dataclasses.replace(config, model=dataclasses.replace(config.model, mixer="attention"))
    contenders = {"ours": partial(step_contender, config), "attention": partial(step_contender, attention)}
    if args.peers:
        contenders["torch original"] = partial(_peer, config)
    return Case(name, config.data.batch_size * config.data.length, contenders)


def _experiment(args):
    tiny = ["data.length=16", "data.batch_size=2", "model.width=8", "model.ffn_width=8", "model.num_layers=1"]
    tokens, contenders = 0, {}
    for mixer in args.mixers:
        config = load_config(args.config, [f"model.mixer={mixer}", *(tiny if args.quick else []), *args.set])
        config = resolve_sizes(config, args.vocab_size)
        tokens = config.data.batch_size * config.data.length
        contenders[mixer] = partial(step_contender, config)
    return Case(f"experiment {Path(args.config).stem}", tokens, contenders, reference=args.mixers[-1])


def _peer(config):
    from benchmarks import peers  # needs the extra [peers]

    return peers.step_contender(config)


def _arguments(parser):
    names = ("experiment", *SETTINGS)
    parser.add_argument("--setting", nargs="+", default=names, choices=names)
    parser.add_argument("--config", default="experiments/tinyshakespeare_char.py")
    parser.add_argument("--mixers", nargs="+", default=["causal_fftnet", "attention"])
    parser.add_argument("--set", nargs="*", default=[], metavar="a.b=value", help="further fields, for every mixer")
    parser.add_argument("--vocab_size", type=command_line.count, default=65)


def main(argv=None) -> None:
    # A run's steps follow one another: several a turn, where one is short. The first after another's turn are slower.
    benchmark("train_step", cases, __doc__, argv, _arguments, turn=12.0)


if __name__ == "__main__":
    sys.exit(command_line.run(main))
