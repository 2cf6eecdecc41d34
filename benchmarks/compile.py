"""What the compilers of TPUs and GPUs say of our programs, without the chips: time, memory, arithmetic.

    pip install -e '.[aot]'
    python -m benchmarks.compile --list
    python -m benchmarks.compile --only "stft|attention" --chip v5e v6e
    python -m benchmarks.compile --json benchmarks/results/compile.json && python -m benchmarks.compile --report

An estimate of the compiler, not a measurement, for one chip. Mixers: forward and backward, gradients to parameters and
input. Loops are multiplied out; a kernel of Pallas, of which the compiler estimates nothing, is taken to reach 40% of
the roof by its own FLOPs and bytes. GFLOP and MB are those of the compiled program. The floor is the larger of the
FLOPs that any form must take (dense products and attention's) over the bfloat16 peak, and of the bytes of arguments and
results over the bandwidth. For a GPU (`--chip h100`, where `.[cuda12]` is installed) nothing estimates time. Some
programs take minutes to compile. Linux on x86-64.
"""

import re
import sys
from pathlib import Path

import jax

from benchmarks import command_line, estimates
from benchmarks.ahead import compile_for
from benchmarks.chips import CHIPS, COMPILED, device
from benchmarks.programs import Program, check_shape, programs
from fftnet_jax.errors import ConfigError
from fftnet_jax.parallel.mesh import build_mesh

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks/results/compile.json"


def main(argv: list[str]) -> int:
    args = _arguments(argv)
    everything = programs(check_shape(args.shape) if args.shape else None)
    wanted = [program for program in everything if re.search(args.only, program.title)]
    if not wanted:
        titles = "; ".join(program.title for program in everything)
        raise ConfigError(f"--only {args.only!r} matches no program; there are {titles}")
    if args.list:
        print("\n".join(program.title for program in wanted))
        return 0
    if args.report:
        return report(args.json or RESULTS)
    order = [program.title for program in programs()]
    if args.json:
        estimates.read(args.json)  # a file that can't be added to is known of before hours of compiling
    rows = []
    for chip, mesh in {name: build_mesh(devices=[device(CHIPS[name])]) for name in args.chip}.items():
        print(f"\nEstimated by the compiler for one {CHIPS[chip].title}, jax {jax.__version__}\n{estimates.header()}")
        for program in wanted:
            if CHIPS[chip].form in program.forms:
                rows.append(_compiled(chip, program, mesh))
                print(estimates.line(rows[-1]), flush=True)
                if args.json:
                    estimates.merge(args.json, rows[-1], order)
    if args.picture:
        estimates.picture(args.picture, rows)
    return int(any(row["error"] for row in rows))


def report(results: Path) -> int:
    """Writes the tables and the picture of docs/accelerators.md."""
    rows = estimates.read(results)
    if not rows:
        raise ConfigError(f"--report needs rows in {results}, which --json writes")
    page = ROOT / "docs/accelerators.md"
    estimates.write_page(page, rows)
    estimates.picture(ROOT / "docs/bench_compile.png", rows)
    print(page)
    return 0


def _arguments(argv):
    parser = command_line.parser(__doc__)
    parser.add_argument("--chip", nargs="+", choices=COMPILED, default=["v5e"], help="default: v5e")
    parser.add_argument("--only", type=command_line.pattern, default="", help="regular expression of names to compile")
    parser.add_argument(
        "--shape", type=int, nargs="+", metavar="N", help="rows, tokens, channels: mixers at that shape"
    )
    parser.add_argument("--list", action="store_true", help="print the names, compile nothing")
    parser.add_argument("--json", type=Path, help="file for the results; rows of other programs in it stay")
    parser.add_argument("--picture", type=Path, help="file for a picture of the results")
    parser.add_argument("--report", action="store_true", help="write docs/accelerators.md by --json, compile nothing")
    args = parser.parse_args(argv)
    for name in ("json", "picture"):
        path = getattr(args, name)
        if path and not path.resolve().parent.is_dir():
            raise ConfigError(f"--{name} must be a file in a folder that is there, got {path}")
    return args


def _compiled(chip: str, program: Program, mesh) -> dict:
    try:
        return estimates.row(chip, program, compile_for(CHIPS[chip], mesh, program.build, program.form))
    except Exception as error:  # compilers and lowerings have many; one program must not end the others
        lines = str(error).splitlines() or [type(error).__name__]
        return estimates.row(chip, program, None, error=lines[0][:160])


if __name__ == "__main__":
    sys.exit(command_line.run(main))
