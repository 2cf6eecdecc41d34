"""What a run needs on many devices: memory, arithmetic, traffic, and the time that a step could take.

    python -m benchmarks.scale --config benchmarks/configs/one_billion.py --chip v5e --devices 256
    python -m benchmarks.scale --config benchmarks/configs/one_billion.py --chip v5p --config.data.length=1048576
    python -m benchmarks.scale --config benchmarks/configs/one_billion.py

Compiles the real train step ahead of time for that many devices, none of which need exist: of a TPU by its own compiler
(`pip install -e '.[aot]'`), or without `--chip` of a CPU. What each device holds, computes and sends is read from the
compiled program. Beside each figure stands the formula that gives it; `docs/scale.md` explains them. Nothing is run:
times are the compiler's estimates, and bytes over the peak rates of the data sheets.
"""

import importlib.metadata
import math
import platform
import sys
from pathlib import Path

import jax

from benchmarks import command_line
from benchmarks.ahead import compile_for
from benchmarks.chips import CHIPS, TPUS, Chip, devices
from benchmarks.experiment_steps import train_step
from benchmarks.hlo import KINDS, Sent
from benchmarks.roofline import network_seconds
from benchmarks.timing import write_json
from fftnet_jax.config.command_line import parse_config
from fftnet_jax.errors import ConfigError
from fftnet_jax.parallel.mesh import build_mesh, check_divisible
from fftnet_jax.runs.opening import resolve_sizes

CPU = Chip("CPU", "cpu", *(math.inf,) * 4)


def measured(config, mesh, chip: Chip) -> dict:
    """What the compiled step holds, computes and sends, of one device."""
    work = train_step(config, mesh)
    params, compiled = work.arguments[0].params, compile_for(chip, mesh, lambda _: work)
    return {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "state": compiled.held,
        "working": compiled.working,
        "peak": compiled.peak,
        "flops": compiled.flops,
        "moved": compiled.bytes,
        "cycles": compiled.cycles,
        "seconds": compiled.ms and compiled.ms / 1e3,
        "seconds_to_compile": compiled.seconds,
        "kernels": compiled.kernels,
        "traffic": {kind: (sent.count, round(sent.bytes)) for kind, sent in compiled.sent.items()},
        "beside": {kind: round(sent.beside) for kind, sent in compiled.sent.items()},
        "gathered_activations": gathered_activations(compiled.sent, params),
        "split": _split(params),
    }


def gathered_activations(sent: dict[str, Sent], params) -> list[str]:
    """What all-gathers and all-reduces of a step give that has no parameter's shape, nor that of a part of one.

    A TPU's compiler gathers small parameters by an all-reduce.
    """

    def plain(shape):
        return tuple(sorted(n for n in shape if n > 1))

    leaves = jax.tree.leaves(params)
    known = {()} | {plain(shape) for leaf in leaves for shape in (leaf.shape, leaf.sharding.shard_shape(leaf.shape))}
    shapes = frozenset().union(*(sent[kind].shapes for kind in ("all-gather", "all-reduce") if kind in sent))
    return [f"{name}{list(shape)}" for name, shape in sorted(shapes) if plain(shape) not in known]


def predicted(config, mesh, split: dict, gathered: int) -> dict:
    """The same by formula: name → (formula, value). Symbols as in `docs/scale.md`.

    Args:
      gathered: bytes of a parameter's number on its way.
    """
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
        "all-gather": ("g ((1 + r) S + E) (p - 1) / p", gathered * ((1 + again) * blocks + others) * away),
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


def times(config, mesh, found: dict, formulas: dict, chips: list[Chip]) -> list[dict]:
    """The least seconds of a step on each chip by the formulas, and by its compiler where the step was compiled for it.

    `tokens_per_second` is for a network that is busy beside the rest all the time; only where the program lets it;
    never.
    """
    tokens, rows = config.data.batch_size * config.data.length, []
    kinds, is_slow = found["traffic"], config.model.dtype == "float32"
    by_formula = {kind: formulas[kind][1] for kind in KINDS}

    def add(chip, by, busy, sent, beside):
        network, hidden = (
            {kind: network_seconds(kind, bytes_, mesh.shape["model"], chip) for kind, bytes_ in each.items()}
            for each in (sent, beside)
        )
        least, all_sent, hidden = max(busy.values()), sum(network.values()), sum(hidden.values())
        steps = max(least, all_sent), max(least, hidden) + all_sent - hidden, least + all_sent
        longest = max(busy | {"network": all_sent}, key=(busy | {"network": all_sent}).get)
        row = {"chip": chip.title, "by": by, "compute": least, "network": network, "longest": longest}
        rows.append(row | {"tokens_per_second": [tokens / seconds for seconds in steps]})

    for chip in chips:
        arithmetic = formulas["flops"][1] / chip.flops * (2 if is_slow else 1)
        busy = {"arithmetic": arithmetic, "memory": formulas["moved"][1] / chip.bandwidth}
        add(chip, "the formulas", busy, by_formula, {})
        if found["seconds"]:
            sent = {kind: bytes_ for kind, (_, bytes_) in kinds.items()}
            add(chip, "the compiler", {"compute": found["seconds"]}, sent, found["beside"])
    return rows


def report(config, mesh, found: dict, formulas: dict, rows: list[dict], chips: list[Chip]) -> str:
    """The figures as Markdown."""
    m = config.model
    axes = " × ".join(f"{size} {axis}" for axis, size in mesh.shape.items())
    lines = [
        f"{found['parameters']:,} parameters, {m.num_layers} layers of {m.width}, {config.data.batch_size} sequences "
        f"of {config.data.length:,} tokens a step, {m.dtype}; {mesh.size} devices: {axes}\n",
        "| a device's | formula | by formula | in the compiled step |\n|---|---|---|---|",
        _row("state and batch, bytes", *formulas["state"], found["state"]),
        _row("working memory, bytes", "", None, found["working"]),
        _row("alive at once, bytes", "", None, found["peak"]),
        _row("FLOPs a step", *formulas["flops"], found["flops"]),
        _row("memory traffic, bytes a step", *formulas["moved"], found["moved"]),
    ]
    for kind in KINDS:
        count, bytes_ = found["traffic"].get(kind, (0, 0))
        if count or formulas[kind][1]:
            lines.append(_row(f"{kind}, bytes sent a step ({count} ×)", *formulas[kind], bytes_))
    held, alive, activations = found["state"] + found["working"], found["peak"], found["gathered_activations"]
    rooms = "; ".join(f"{chip.title}, {chip.memory / 1e9:.0f} GB: {_fit(held, alive, chip)}" for chip in chips)
    lines += [
        f"\nMemory: state and working memory {held / 1e9:.1f} GB, alive at once {alive / 1e9:.1f} GB. {rooms}. "
        f"Gathered activations: {len(activations)}{' (' + ', '.join(activations) + ')' if activations else ''}.\n",
        "| chip | by | compute, s | network, s | longest | tokens/s, all overlapped | as compiled | none overlapped |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        best, compiled, worst = (f"{speed:,.0f}" for speed in row["tokens_per_second"])
        compiled = compiled if row["by"] == "the compiler" else ""
        seconds = f"{row['compute']:.3f} | {sum(row['network'].values()):.3f} | {row['longest']}"
        lines.append(f"| {row['chip']} | {row['by']} | {seconds} | {best} | {compiled} | {worst} |")
    return "\n".join(lines + _of_the_network(found, rows))


def _fit(held: int, alive: int, chip: Chip) -> str:
    if held <= chip.memory:
        return "fits"
    return "fits by what is alive at once only" if alive <= chip.memory else "too little"


def _of_the_network(found: dict, rows: list[dict]) -> list[str]:
    """The seconds of each kind of collective, where the step was compiled for a chip."""
    lines = []
    for row in rows:
        if row["by"] == "the compiler":
            lines = ["\n| collective | seconds | beside other work |\n|---|---|---|"]
            for kind, seconds in row["network"].items():
                share = found["beside"][kind] / found["traffic"][kind][1]
                lines.append(f"| {kind} | {seconds:.3f} | {share:.0%} |")
    return lines


def _row(name, formula, value, compiled):
    value, compiled = ("" if number is None else f"{number:,.0f}" for number in (value, compiled))
    return f"| {name} | {formula} | {value} | {compiled} |"


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
        parser.add_argument("--chip", choices=TPUS, help="compile for it by its own compiler; without, for a CPU")
        parser.add_argument("--output", metavar="FILE", help="also write the figures there, as JSON")

    args, config = parse_config(argv, __doc__, add)
    if not 1 <= args.devices <= 2**14:
        raise ConfigError(f"--devices must be in 1..16384, got {args.devices}")
    if not config.model.vocab_size:
        raise ConfigError("model.vocab_size must be set, as no data are read, got 0")
    if args.output and not Path(args.output).resolve().parent.is_dir():
        raise ConfigError(f"--output must be a file in a folder that is there, got {args.output}")
    config, chip = resolve_sizes(config, config.model.vocab_size), CHIPS.get(args.chip, CPU)
    slice_ = devices(chip, args.devices) if args.chip else None
    jax.config.update("jax_platforms", "cpu")
    if not args.chip:
        jax.config.update("jax_num_cpu_devices", args.devices)
    mesh = build_mesh(config.mesh, slice_)
    check_divisible(config, mesh)
    print(f"compiling the train step for {mesh.size} devices", file=sys.stderr, flush=True)
    found = measured(config, mesh, chip)
    formulas = predicted(config, mesh, found["split"], _bytes(config) if args.chip else 4)
    chips = [chip] if args.chip else list(CHIPS.values())
    rows = times(config, mesh, found, formulas, chips)
    print(report(config, mesh, found, formulas, rows, chips))
    versions = {"jax": jax.__version__} | ({"libtpu": importlib.metadata.version("libtpu")} if args.chip else {})
    print(f"\n{', '.join(' '.join(pair) for pair in versions.items())}; {found['seconds_to_compile']:.0f} s to compile")
    if args.output:
        values = versions | {"python": platform.python_version(), "mesh": dict(mesh.shape), "chip": args.chip}
        values |= {"found": found, "formulas": formulas, "times": rows}
        write_json(Path(args.output), values | {"config": args.config, "arguments": argv})


if __name__ == "__main__":
    sys.exit(command_line.run(main))
