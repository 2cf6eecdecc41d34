"""Original B's ablation: 16 shapes of student, width_layers_ffn_window, on GSM8K.

    python experiments/gsm8k_ablation.py --shapes 128_3_1024_64 128_6_512_64
    python experiments/gsm8k_ablation.py --distil
    python train.py --config experiments/gsm8k_ablation.py

The first two train shapes in turn (all 16 unless named), each in its own folder of --folder, and write ablation.md,
ablation.json and ablation.png there, about all shapes that are finished; the same command goes on where it was
stopped, and runs no finished shape again. The third trains one shape, the smallest. They learn from the text alone;
with --distil also from SmolLM2, whose log-probabilities are written first:

    python -m fftnet_jax.distillation.shards --config experiments/gsm8k_ablation.py

The original's 16 parameter counts come out to the last printed digit with GPT-2's 50,257 tokens, one table for tokens
and head, 512 learned positions and biases everywhere but in the head (Qwen2's 151,936 tokens alone would be more than
the smaller counts). One shape is named num_hidden_layers_3 there; its count is that of 512_3_2048_256. Here positions
and tying are the same, and the vocabulary is SmolLM2's, reduced to the 13,736 tokens of GSM8K and one for the rest.
Problems, length, batch and epochs are those of original B's distilled setting; the learning rate is 1e-3 (there 5e-6).
The losses in its paper add the divergence up over positions: they can't be compared with these, in nats per token.
The original's block is trained as it is; `--config.model.block_norm=pre --config.model.spectrum=hartley
--config.model.spectrum_norm=ortho` mends what slows it down.
Hardware, wall time and figure reached: not measured yet.
"""

import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import NamedTuple

import jax
from matplotlib.figure import Figure

from fftnet_jax.config import Config, default_config, load_config, to_dict
from fftnet_jax.config.command_line import parse_config, run_command
from fftnet_jax.errors import ConfigError
from fftnet_jax.files import write_atomic
from fftnet_jax.models import build_model
from fftnet_jax.runs.folder import RunFolder, read_metrics
from fftnet_jax.runs.opening import fresh_params
from fftnet_jax.training import Diverged, Interrupted, train

PUBLISHED = {  # shape → millions of parameters, final loss and minutes, as the original's paper prints them
    "512_3_2048_32": (57.47, 36.95, 4.56),
    "512_3_2048_64": (82.63, 39.30, 6.60),
    "512_3_1024_64": (79.48, 39.30, 6.55),
    "512_3_1024_256": (230.48, 39.33, 19.36),
    "512_3_2048_256": (233.63, 39.47, 19.43),
    "512_3_2048_128": (132.96, 39.89, 10.90),
    "512_3_1024_128": (129.82, 40.00, 10.62),
    "256_3_1024_256": (64.91, 42.43, 9.69),
    "256_3_1024_64": (27.16, 42.71, 3.91),
    "256_3_1024_128": (39.74, 42.83, 5.82),
    "128_3_1024_256": (19.87, 46.65, 5.56),
    "128_3_1024_128": (13.58, 47.29, 3.50),
    "128_3_1024_64": (10.44, 47.57, 2.76),
    "128_6_512_64": (13.58, 52.43, 3.87),
    "128_8_512_64": (15.95, 52.81, 4.61),
    "128_10_512_64": (18.31, 52.83, 5.36),
}
SIZES = ("width", "num_layers", "ffn_width", "window")
TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
SMALLEST = "128_3_1024_64"
NOTE = (
    "Losses here are nats per token. The original's are as its paper prints them: its divergence is summed over "
    "positions, so they can be compared with one another and not with ours. Its vocabulary is another one too "
    "(50,257 tokens), hence its larger counts."
)


class Row(NamedTuple):
    """What came of one shape; losses are of the parameters with the best validation loss."""

    shape: str
    parameters: int
    validation_loss: float
    test_loss: float
    step: int
    minutes: float  # of training and evaluation, in processes that were not killed

    def to_dict(self) -> dict:
        names = ("parameters_millions", "loss", "minutes")
        return {**self._asdict(), "original": dict(zip(names, PUBLISHED[self.shape], strict=True))}


def get_config():
    config = default_config()
    config.data.source = "gsm8k"
    config.data.num_problems = 500
    config.data.num_validation = 50
    config.data.tokenizer = "gguf:smollm2"
    config.data.reduce_vocabulary = True
    config.data.length = 128
    config.data.batch_size = 16
    config.model.mixer = "causal_stft"
    for name, size in zip(SIZES, map(int, SMALLEST.split("_")), strict=True):
        config.model[name] = size
    config.model.max_length = 512
    config.model.positions = "learned"
    config.model.block_norm = "post"
    config.model.norm_epsilon = 1e-12
    config.model.embedding_norm = True
    config.model.final_norm = False
    config.training.num_epochs = 25.0
    config.training.eval_every_epochs = 1.0
    config.training.learning_rate = 1e-3
    config.training.schedule = "linear"
    config.training.final_fraction = 0.0
    config.training.warmup_steps = 50
    config.training.weight_decay = 0.01
    config.training.beta2 = 0.999
    config.distillation.teacher = "smollm2"
    config.distillation.teacher_dtype = "float32"
    config.distillation.shards = "shards/gsm8k_ablation"
    config.distillation.alpha = 1.0  # the text alone; --distil makes it one half
    config.sample.max_new_tokens = 60
    return config


def main(argv: list[str]) -> int:
    return run_command(lambda: run(*parse(argv)), "stopped; the same command goes on from the last checkpoint")


def parse(argv: list[str]) -> tuple[list[str], Path, Config]:
    """The shapes to train, the folder, and the configuration that all of them share."""

    def add(parser):
        parser.usage = "%(prog)s [--shapes SHAPE ...] [--folder DIR] [--distil] [--config.SECTION.FIELD=VALUE ...]"
        parser.add_argument("--shapes", nargs="+", default=list(PUBLISHED), metavar="SHAPE", help="of " + shapes)
        parser.add_argument("--folder", type=Path, default=Path("runs/ablation"), metavar="DIR", help="for all results")
        parser.add_argument("--distil", action="store_true", help="learn from the shards too, alpha one half")

    shapes = ", ".join(PUBLISHED)
    distil = ["--config.distillation.alpha=0.5"] if "--distil" in argv else []
    args, config = parse_config(["--config", __file__, *distil, *argv], __doc__.split("\n\n")[0], add)
    for shape in args.shapes:
        if shape not in PUBLISHED:
            raise ConfigError(f"--shapes must be of {shapes}, got {shape!r}")
    before = load_config(args.config).model
    for name in SIZES:
        if (size := getattr(config.model, name)) != getattr(before, name):
            raise ConfigError(f"model.{name} is part of a shape and must be set by --shapes, got {size}")
    return list(dict.fromkeys(args.shapes)), args.folder, config


def run(shapes: list[str], folder: Path, config: Config) -> int:
    """Trains what is not there yet, and reports after each shape; 1 where one diverged, 130 where it was stopped."""
    status = 0
    for number, shape in enumerate(shapes, 1):
        print(f"{shape}, {number} of {len(shapes)}", file=sys.stderr)
        if not finished(shape, folder, config):
            try:
                train_shape(shape, folder, config)
            except Interrupted as stop:
                print(stop, file=sys.stderr)
                return 130
            except Diverged as error:
                print(f"error: {shape}: {error}", file=sys.stderr)
                status = 1
        rows = [row for name in PUBLISHED if (row := finished(name, folder, config))]
        if rows:
            report(rows, folder)
    if rows:
        print(table(rows), end="")
    return status


def finished(shape: str, folder: Path, config: Config) -> Row | None:
    """What came of a shape, None where it is not trained to the end with this configuration."""
    found = _read_json(folder / shape / "result.json")
    return Row(**found["row"]) if found and found["config"] == _asked(of_shape(shape, config)) else None


def of_shape(shape: str, config: Config) -> Config:
    sizes = dict(zip(SIZES, map(int, shape.split("_")), strict=True))
    return dataclasses.replace(config, model=dataclasses.replace(config.model, **sizes))


def train_shape(shape: str, folder: Path, config: Config) -> None:
    """Trains a shape, from its last checkpoint on, and leaves its figures in its folder."""
    workdir, config = folder / shape, of_shape(shape, config)
    seconds, start = _read_json(workdir / "seconds.json") or 0.0, time.monotonic()
    try:
        figures = train(config, workdir)
    finally:
        seconds += time.monotonic() - start
        if workdir.is_dir():
            write_atomic(workdir / "seconds.json", json.dumps(seconds).encode())
        jax.clear_caches()
    validation = {row["step"]: row["val/loss"] for row in read_metrics(workdir / "metrics.jsonl") if "val/loss" in row}
    step = figures["step"]
    row = Row(shape, _parameters(workdir), validation[step], figures["loss"], step, seconds / 60)
    result = {"config": _asked(config), "row": row._asdict()}
    write_atomic(workdir / "result.json", json.dumps(result, indent=1).encode())


def report(rows: list[Row], folder: Path) -> None:
    """Writes ablation.json, ablation.md and ablation.png."""
    values = {"note": NOTE, "shapes": [row.to_dict() for row in rows]}
    write_atomic(folder / "ablation.json", (json.dumps(values, indent=1) + "\n").encode())
    write_atomic(folder / "ablation.md", f"{table(rows)}\n{NOTE}\n".encode())
    plot(rows, folder / "ablation.png")


def table(rows: list[Row]) -> str:
    """Markdown, a line a shape."""
    names = ("shape", "parameters", "validation loss", "test loss", "minutes")
    names += ("original: parameters", "its loss", "its minutes")
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    for row in rows:
        millions, loss, minutes = PUBLISHED[row.shape]
        ours = f"{row.parameters / 1e6:.2f}M | {row.validation_loss:.3f} | {row.test_loss:.3f} | {row.minutes:.1f}"
        lines.append(f"| {row.shape} | {ours} | {millions:.2f}M | {loss:.2f} | {minutes:.2f} |")
    return "\n".join(lines) + "\n"


def plot(rows: list[Row], path: Path) -> None:
    """Loss against parameters, ours and the original's side by side, a line a width_layers_ffn, its windows marked."""
    figure = Figure(figsize=(12, 5), layout="constrained")
    ours, theirs = figure.subplots(1, 2, sharex=True)
    families = {}
    for shape in sorted({row.shape for row in rows}, key=lambda shape: [int(size) for size in shape.split("_")]):
        families.setdefault(shape.rpartition("_")[0], []).append(shape)
    of = {row.shape: row for row in rows}
    for number, (family, shapes) in enumerate(families.items()):
        style = {"color": f"C{number}", "marker": "os"[number % 2], "markersize": 4, "label": family}
        _line(ours, shapes, [(of[s].parameters / 1e6, of[s].test_loss) for s in shapes], style)
        _line(theirs, shapes, [PUBLISHED[s][:2] for s in shapes], style)
    ours.set(title="here, best parameters", ylabel="test loss (nats per token)")
    theirs.set(title="the original, as printed: not comparable with ours", ylabel="its loss (divergence summed)")
    for axes in (ours, theirs):
        axes.set(xscale="log", xlabel="parameters (millions); numbers are windows")
        axes.minorticks_off()
        axes.set_xticks(TICKS, TICKS)
        axes.grid(alpha=0.3)
    counts = [row.parameters / 1e6 for row in rows] + [PUBLISHED[row.shape][0] for row in rows]
    ours.set_xlim(0.8 * min(counts), 1.25 * max(counts))
    theirs.legend(title="width_layers_ffn")
    figure.savefig(path, dpi=120)


def _line(axes, shapes: list[str], points: list[tuple[float, float]], style: dict) -> None:
    """Lines with squares have their numbers below, so that close lines can be told apart."""
    axes.plot(*zip(*points, strict=True), **style)
    offset = {"o": (0, 5), "s": (0, -12)}[style["marker"]]
    for shape, point in zip(shapes, points, strict=True):
        window = shape.rpartition("_")[2]
        axes.annotate(window, point, textcoords="offset points", xytext=offset, ha="center", fontsize=8)


def _parameters(workdir: Path) -> int:
    model = build_model(RunFolder(workdir).load_config().model)
    return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(lambda: fresh_params(model, 0))))


def _asked(config: Config) -> dict:
    """The configuration as JSON gives it back, without the sample, which changes no figure."""
    return json.loads(json.dumps({name: part for name, part in to_dict(config).items() if name != "sample"}))


def _read_json(path: Path):
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):  # not there, or not ours: the run is looked at again
        return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
