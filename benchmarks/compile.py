"""What the TPU's own compiler says of each mixer, without a TPU: estimated cycles of one chip.

    pip install -e '.[aot]'
    python -m benchmarks.compile
    python -m benchmarks.compile --only "stft|attention" --chip v6e

Forward and backward, gradients to parameters and input, with `ops.use("tpu")`; loops are multiplied out. An estimate of
the compiler, not a measurement. Some programs take minutes to compile. Linux on x86-64.
"""

import os
import re
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks import command_line
from benchmarks.hlo import estimated_cycles
from benchmarks.timing import write_json
from fftnet_jax import ops
from fftnet_jax.config import ModelConfig
from fftnet_jax.errors import ConfigError
from fftnet_jax.mixers import build_mixer

CHIPS = {"v5e": "v5e:2x2", "v5p": "v5:2x2x1", "v6e": "v6e:2x2"}  # the smallest slice of each
MIXERS = (  # name, (B, N, D), options
    ("attention", (8, 1024, 256), {"num_heads": 4}),
    ("causal_fftnet", (8, 1024, 256), {}),
    ("causal_fftnet", (1, 32768, 256), {}),
    ("causal_stft", (8, 1024, 256), {"window": 64}),
    ("causal_stft", (8, 256, 256), {"window": 32}),
    ("fftnet", (64, 128, 128), {}),
    ("fourier", (8, 512, 768), {}),
)
PROGRAMS = [(*mixer, dtype) for mixer in MIXERS for dtype in ("bfloat16", "float32")]
# Without a TPU's own machine, libtpu is told where it would be.
AWAY = {"TPU_SKIP_MDS_QUERY": "1", "TPU_ACCELERATOR_TYPE": "v5litepod-4", "TPU_WORKER_HOSTNAMES": "localhost"}


def main(argv: list[str]) -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--chip", choices=CHIPS, default="v5e", help="default: v5e")
    parser.add_argument("--only", type=command_line.pattern, help="regular expression of names to compile")
    parser.add_argument("--json", type=Path, help="file for the results")
    args = parser.parse_args(argv)
    programs = [program for program in PROGRAMS if re.search(args.only or "", title(*program))]
    if not programs:
        raise ConfigError(
            f"--only {args.only!r} matches no program; there are {'; '.join(title(*p) for p in PROGRAMS)}"
        )
    place, rows = one_chip(args.chip), []
    print(f"Estimated by the TPU compiler for one {args.chip}, jax {jax.__version__}: millions of cycles.")
    print(f"{'program':<58} {'cycles':>8} {'compiled in':>12}", flush=True)
    for program in programs:
        cycles, seconds = compiled(*program, place)
        print(f"{title(*program):<58} {cycles / 1e6:8.3f} {seconds:10.0f} s", flush=True)
        rows.append({"name": title(*program), "cycles": cycles, "seconds_to_compile": round(seconds, 1)})
    if args.json:
        write_json(args.json, {"chip": args.chip, "jax": jax.__version__, "estimated": True, "rows": rows})


def one_chip(chip: str) -> NamedSharding:
    """Where a program for one chip of a slice that isn't there puts its arrays.

    Raises:
      ConfigError: libtpu is missing or refuses.
    """
    os.environ.update(AWAY)
    try:
        slice_ = topologies.get_topology_desc(platform="tpu", topology_name=CHIPS[chip])
    except Exception as error:  # JAX names no class for it
        line = str(error).splitlines()[0]
        wanted = "pip install -e '.[aot]' brings it, for one process at a time"
        raise ConfigError(f"no TPU compiler ({line}); {wanted}") from None
    return NamedSharding(Mesh(np.array(slice_.devices[:1]), ("chip",)), PartitionSpec())


def title(name: str, shape: tuple, options: dict, dtype: str) -> str:
    return f"{name} {shape} {dtype}" + "".join(f", {key} {value}" for key, value in options.items())


def compiled(name: str, shape: tuple, options: dict, dtype: str, place: NamedSharding) -> tuple[int, float]:
    """Estimated cycles of a mixer's gradient, and the seconds that compiling took."""
    family = "decoder" if name not in ("fftnet", "fourier") else "encoder"
    mixer = build_mixer(name, ModelConfig(mixer=name, family=family, width=shape[-1], dtype=dtype, **options))
    x = jax.ShapeDtypeStruct(shape, dtype)
    params = jax.eval_shape(mixer.init, jax.random.key(0), x)

    def loss(params, x):
        return jnp.square(mixer.apply(params, x).astype(jnp.float32)).sum()

    started = time.perf_counter()
    with ops.use("tpu"):
        gradient = jax.jit(jax.value_and_grad(loss, (0, 1)), in_shardings=place, out_shardings=place)
        program = gradient.lower(params, x).compile()
    return estimated_cycles(program.as_text()), time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(command_line.run(main))
