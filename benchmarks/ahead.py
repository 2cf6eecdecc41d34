"""Compiling a program for a chip that isn't there."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from jax.sharding import Mesh

from benchmarks.chips import Chip
from benchmarks.costs import costs
from benchmarks.hlo import Sent, traffic
from benchmarks.roofline import floor, kernel_seconds
from fftnet_jax import ops

OPTIONS = {  # there is no GPU to try kernels on, and untried ones of Triton fail to compile
    "gpu": {"xla_gpu_autotune_level": 0, "xla_gpu_enable_triton_gemm": False},
}


@dataclass(frozen=True)
class Work:
    """What a program computes, for shapes.

    Attributes:
      function: a jitted one.
      arguments: arrays or `jax.ShapeDtypeStruct`s.
      flops: the least that it must take, of any form; see `roofline.dense_flops`.
      moved: bytes that it must read and write at least; None for its arguments and results.
      kernel_flops: of kernels of Pallas in it that don't say theirs.
      turns: of loops whose bound depends on data.
    """

    function: Callable
    arguments: tuple
    flops: float = 0.0
    moved: float | None = None
    kernel_flops: float = 0.0
    turns: int = 1


@dataclass(frozen=True)
class Compiled:
    """What a compiler says of a program; see `costs.Costs`. Times are None where it estimates none.

    Attributes:
      seconds: that tracing and compiling took.
      cycles: estimated; kernels of Pallas at `roofline.SHARE` of the roof.
      floor_ms: `roofline.floor` of what the work must take.
      held: bytes of arguments and results, shared ones once.
      working: further bytes while it runs.
      sent: between devices, by kind of collective.
      peak: bytes that are alive at once at most, arguments and results among them. Of a TPU the compiler says so:
        `working` is more than it assigns there (libtpu 0.0.42, the plan of docs/scale.md at 1,048,576 tokens: 18.9 GB
        for 12.3, by XLA_FLAGS="--xla_dump_to=FOLDER --xla_dump_hlo_as_text"). Of others `held` and `working`.
    """

    seconds: float
    cycles: int | None
    ms: float | None
    flops: float
    bytes: float
    floor_ms: float
    held: int
    working: int
    kernels: dict[str, int]
    sent: dict[str, Sent]
    peak: int = 0

    @property
    def ratio(self) -> float | None:
        """Estimated time over the floor."""
        return None if self.ms is None else self.ms / self.floor_ms


def compile_for(chip: Chip, mesh: Mesh, build: Callable[[Mesh], Work], form: str = "") -> Compiled:
    """Compiles what `build` makes, for the devices of `mesh`, which are of `chip`.

    Args:
      form: of the operations, see `ops.use`; empty for the chip's.

    Raises:
      Exception: of whatever class, where the compiler refuses.
    """
    with ops.use(form or chip.form):
        work = build(mesh)
        started = time.perf_counter()
        program = work.function.lower(*work.arguments).compile(OPTIONS.get(chip.form))
        seconds = time.perf_counter() - started
    text, memory = program.as_text(), program.memory_analysis()
    found, ends = costs(text, work.turns), memory.argument_size_in_bytes + memory.output_size_in_bytes
    held, cycles = ends - memory.alias_size_in_bytes, None
    if chip.clock:
        cycles = round(found.cycles + chip.clock * kernel_seconds(found.pallas, work.kernel_flops, chip))
    return Compiled(
        seconds=seconds,
        cycles=cycles,
        ms=None if cycles is None else 1e3 * cycles / chip.clock,
        flops=found.flops + max(0.0, work.kernel_flops - sum(flops for flops, _ in found.pallas)),
        bytes=found.bytes,
        floor_ms=1e3 * floor(work.flops, ends if work.moved is None else work.moved, chip),
        held=held,
        working=memory.temp_size_in_bytes,
        kernels=found.kernels,
        sent=traffic(text),
        peak=memory.peak_memory_in_bytes if chip.form == "tpu" else held + memory.temp_size_in_bytes,
    )
