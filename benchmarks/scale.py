"""What a run would need on many devices: memory, arithmetic, traffic, and the least time a step could take.

    python -m benchmarks.scale --config benchmarks/configs/one_billion.py --devices 256
    python -m benchmarks.scale --config benchmarks/configs/one_billion.py --devices 256 --config.data.length=1048576

Compiles the real train step ahead of time for that many devices, none of which need exist, and reads from the compiled
program what each device holds and sends. Beside each figure stands the formula that gives it; `docs/scale.md` explains
them. Times are lower bounds: peak rates of the data sheets, nothing else measured.
"""

import math
import platform
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp

from benchmarks import command_line
from benchmarks.chips import CHIPS
from benchmarks.hlo import traffic
from benchmarks.timing import write_json
from fftnet_jax.config.command_line import parse_config
from fftnet_jax.errors import ConfigError
from fftnet_jax.models import build_model
from fftnet_jax.parallel.mesh import batch_sharding, build_mesh, check_divisible
from fftnet_jax.runs.opening import resolve_sizes
from fftnet_jax.training.optimizer import build_optimizer, learning_rate_schedule
from fftnet_jax.training.state import state_shapes
from fftnet_jax.training.step import make_train_step


def compile_step(config, mesh):
    """The compiled train step of a configuration on a mesh, and the shapes of its state, nothing allocated."""
    t, model = config.training, build_model(config.model)
    optimizer = build_optimizer(t, learning_rate_schedule(t, t.num_steps, t.num_steps))
    state = state_shapes(model, optimizer, config.seed, mesh)
    step = make_train_step(model, optimizer, config.seed, t.accumulation, max_spike=t.max_spike, mesh=mesh)
    shape = config.data.batch_size, config.data.length
    kinds = {"inputs": jnp.int32, "targets": jnp.int32, "weights": jnp.float32}
    batch = {name: jax.ShapeDtypeStruct(shape, kind, sharding=batch_sharding(mesh)) for name, kind in kinds.items()}
    places = jax.tree.map(lambda leaf: leaf.sharding, state)
    return jax.jit(step, donate_argnums=0, out_shardings=(places, None)).lower(state, batch).compile(), state


def measured(config, mesh) -> dict:
    """What the compiled step holds and sends, in bytes a device."""
    program, state = compile_step(config, mesh)
    memory = program.memory_analysis()
    layers = config.model.num_layers
    working, saved = memory.temp_size_in_bytes, 0
    if config.model.remat and layers > 1:
        # XLA's CPU ignores what keeps recomputed blocks apart, so all would be alive at once: one block is compiled
        # alone, and what the others keep is added.
        alone = replace(config.model, num_layers=1, mixer=config.model.mixers[0])
        working = compile_step(replace(config, model=alone), mesh)[0].memory_analysis().temp_size_in_bytes
        saved = (layers - 1) * _tokens(config, mesh) * config.model.width * _bytes(config)
    return {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "state": memory.argument_size_in_bytes,
        "working": working,
        "saved": saved,
        "flops": program.cost_analysis()["flops"],
        "traffic": traffic(program.as_text()),
        "split": _split(state.params),
    }


def predicted(config, mesh, split: dict) -> dict:
    """The same by formula: name → (formula, value). Symbols as in `docs/scale.md`."""
    m, layers = config.model, config.model.num_layers
    blocks, others, whole = split["blocks"], split["others"], split["whole"]
    data, parts, model = mesh.shape["data"], mesh.shape["fsdp"] * mesh.shape["model"], mesh.shape["model"]
    tokens, width, size, length = _tokens(config, mesh), m.width, _bytes(config), config.data.length
    rows, again = tokens * model // length, 1 if m.remat else 0
    away, passes = (parts - 1) / parts, 2 + again
    moments = 2 if config.training.optimizer == "adamw" else 1
    fft = sum(10 * math.log2(2 * length) * width for name in m.mixers if name == "causal_fftnet")
    attention = sum(2 * length * width for name in m.mixers if name == "attention")
    stft = sum(2 * min(m.window, length) * width**2 for name in m.mixers if name == "causal_stft")
    forward = 2 * split["kernels"] + fft + attention + stft
    exchanged = {
        "causal_fftnet": 2 * size,
        "attention": 4 * size,
        "fftnet": 2 * size,
        "fourier": 3 * size,
        "causal_stft": 0,
    }
    behind = {"causal_fftnet": (m.short_filter - 1) * size, "causal_stft": (m.window - 1) * size}
    split_model = (model - 1) / model
    return {
        "state": (f"4 (1 + {moments}) ((S + E) / p + W)", 4 * (1 + moments) * ((blocks + others) / parts + whole)),
        "all-gather": ("4 ((1 + r) S + E) (p - 1) / p", 4 * ((1 + again) * blocks + others) * away),
        "reduce-scatter": ("4 (S + E) (p - 1) / p", 4 * (blocks + others) * away),
        "all-reduce": (
            "8 ((S + E) / p (d - 1) / d + W (n - 1) / n)",
            8 * ((blocks + others) / parts * (data - 1) / data + whole * (mesh.size - 1) / mesh.size),
        ),
        "all-to-all": (
            "(2 + r) L e T D (m - 1) / m",
            passes * sum(exchanged[name] for name in m.mixers) * tokens * width * split_model,
        ),
        "collective-permute": (
            "(2 + r) L h R D",
            passes * sum(behind.get(name, 0) for name in m.mixers) * rows * width * (model > 1),
        ),
        "flops": (
            "T ((3 + r) (2 K + 10 L D log2 2N) + 6 V D)",
            tokens * ((3 + again) * forward + 6 * m.vocab_size * width),
        ),
        "moved": (
            "(3 + r) b T L (20 D + 4 F) + 8 (3 + r) (S + E + W)",
            (3 + again) * (size * tokens * layers * (20 * width + 4 * m.ffn_width) + 8 * (blocks + others + whole)),
        ),
    }


def rooflines(config, found: dict, formulas: dict) -> dict:
    """For each chip: the least seconds of a step's arithmetic, memory and network traffic, and whether it fits."""
    sent = sum(formulas[kind][1] for kind in found["traffic"])
    memory = found["state"] + found["working"] + found["saved"]
    rows = {}
    for chip in CHIPS.values():
        times = (
            formulas["flops"][1] / chip.flops * (2 if config.model.dtype == "float32" else 1),
            formulas["moved"][1] / chip.bandwidth,
            sent / chip.link,
        )
        speed = [config.data.batch_size * config.data.length / seconds for seconds in (max(times), sum(times))]
        row = {"compute": times[0], "memory": times[1], "network": times[2], "tokens_per_second": speed}
        rows[chip.title] = row | {"fits": memory <= chip.memory, "room": chip.memory}
    return rows


def report(config, mesh, found: dict, formulas: dict, chips: dict) -> str:
    """The figures as Markdown."""
    m, gib = config.model, 2**30
    axes = " × ".join(f"{size} {axis}" for axis, size in mesh.shape.items())
    lines = [
        f"{found['parameters']:,} parameters, {m.num_layers} layers of {m.width}, {config.data.batch_size} sequences "
        f"of {config.data.length:,} tokens a step, {m.dtype}; {mesh.size} devices: {axes}\n",
        "| a device's | formula | by formula | in the compiled step |\n|---|---|---|---|",
        _row("state, bytes", *formulas["state"], found["state"]),
        f"| working memory, bytes | | | {found['working']:,} |",
        f"| kept for the backward pass, bytes | (L - 1) b T D | {found['saved']:,} | |",
        _row("FLOPs a step", *formulas["flops"], found["flops"]),
        _row("memory traffic, bytes a step", *formulas["moved"], None),
    ]
    for kind, (count, bytes_) in found["traffic"].items():
        lines.append(_row(f"{kind}, bytes sent a step ({count} ×)", *formulas[kind], bytes_))
    total = (found["state"] + found["working"] + found["saved"]) / gib
    lines += [
        f"\nMemory in all {total:.1f} GiB a device.\n",
        "| chip | arithmetic, s | memory, s | network, s | tokens/s, all overlapped | none overlapped | memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for chip, row in chips.items():
        best, worst = row["tokens_per_second"]
        fit = "fits" if row["fits"] else f"too little ({row['room'] / gib:.0f} GiB)"
        times = " | ".join(f"{row[name]:.2f}" for name in ("compute", "memory", "network"))
        lines.append(f"| {chip} | {times} | {best:,.0f} | {worst:,.0f} | {fit} |")
    return "\n".join(lines)


def _row(name, formula, value, compiled):
    return f"| {name} | {formula} | {value:,.0f} | {'' if compiled is None else f'{compiled:,.0f}'} |"


def _tokens(config, mesh) -> int:
    """Tokens of a step that one device works on."""
    return config.data.batch_size * config.data.length // mesh.size


def _bytes(config) -> int:
    return 2 if config.model.dtype == "bfloat16" else 4


def _split(params) -> dict:
    """Numbers of parameters: split ones in blocks and elsewhere, whole ones, and those of the blocks' dense kernels."""
    counts = dict.fromkeys(("blocks", "others", "whole", "kernels"), 0)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        in_block = path[0].key.startswith("blocks")
        split = any(axis is not None for axis in leaf.sharding.spec)
        counts[("blocks" if in_block else "others") if split else "whole"] += leaf.size
        counts["kernels"] += leaf.size if in_block and path[-1].key == "kernel" and "projection" not in str(path) else 0
    return counts


def main(argv=None) -> None:
    def add(parser):
        parser.add_argument("--devices", type=int, default=256, metavar="N", help="how many, none of which need exist")
        parser.add_argument("--output", metavar="FILE", help="also write the figures there, as JSON")

    args, config = parse_config(argv, __doc__, add)
    if not 1 <= args.devices <= 2**14:
        raise ConfigError(f"--devices must be in 1..16384, got {args.devices}")
    if not config.model.vocab_size:
        raise ConfigError("model.vocab_size must be set, as no data are read, got 0")
    if args.output and not Path(args.output).resolve().parent.is_dir():
        raise ConfigError(f"--output must be a file in a folder that is there, got {args.output}")
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", args.devices)
    config = resolve_sizes(config, config.model.vocab_size)
    mesh = build_mesh(config.mesh)
    check_divisible(config, mesh)
    print(f"compiling the train step for {mesh.size} devices", file=sys.stderr, flush=True)
    found = measured(config, mesh)
    formulas = predicted(config, mesh, found["split"])
    chips = rooflines(config, found, formulas)
    print(report(config, mesh, found, formulas, chips))
    if args.output:
        values = {"jax": jax.__version__, "python": platform.python_version(), "mesh": dict(mesh.shape)}
        values |= {"found": found, "formulas": formulas, "chips": chips, "config": args.config, "arguments": argv}
        write_json(Path(args.output), values)


if __name__ == "__main__":
    sys.exit(command_line.run(main))
