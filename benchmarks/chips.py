"""Chips that a program can be planned or compiled for: their peak rates, and their compilers' names for them."""

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

import jax
from jax.experimental import topologies

from fftnet_jax.errors import ConfigError

TARGETS = Path(__file__).parent / "targets"
# Without a TPU's own machine, libtpu is told where it would be.
AWAY = {"TPU_SKIP_MDS_QUERY": "1", "TPU_ACCELERATOR_TYPE": "v5litepod-4", "TPU_WORKER_HOSTNAMES": "localhost"}


@dataclass(frozen=True)
class Chip:
    """Peak rates from the maker's data sheet.

    Attributes:
      form: what `ops.use` calls its kind.
      flops: bfloat16 FLOP/s.
      memory: bytes.
      bandwidth: of its memory, bytes/s.
      link: bytes/s that it can send to others of 256 (TPUs: half of the two-way rate of all links; GPUs: 200 and 400
        Gbit/s of network each).
      target: the compiler's name of it, or the file in `targets` that describes it; empty where no compiler is named.
      clock: cycles/s, for compilers that estimate cycles; `flops` over what the matrix units do in a cycle.
      axes: of the torus that joins it to others, two links along each; 0 for another network.
      most: chips of its largest slice of equal sides or of sides two times each other.
    """

    title: str
    form: str
    flops: float
    memory: float
    bandwidth: float
    link: float
    target: str = ""
    clock: float = 0.0
    axes: int = 0
    most: int = 1


CHIPS = {
    "v5e": Chip("TPU v5e", "tpu", 197e12, 16e9, 819e9, 200e9, "v5e", 1.5e9, 2, 256),
    "v5p": Chip("TPU v5p", "tpu", 459e12, 95e9, 2765e9, 600e9, "v5", 1.75e9, 3, 4096),
    "v6e": Chip("TPU v6e", "tpu", 918e12, 32e9, 1600e9, 400e9, "v6e", 1.75e9, 2, 256),
    "a100": Chip("A100 80 GB", "gpu", 312e12, 80e9, 2039e9, 25e9),
    "h100": Chip("H100 SXM", "gpu", 989e12, 80e9, 3350e9, 50e9, "h100.txtpb"),
}
COMPILED = {name: chip for name, chip in CHIPS.items() if chip.target}
TPUS = {name: chip for name, chip in CHIPS.items() if chip.form == "tpu"}


def device(chip: Chip) -> jax.Device:
    """A device to compile for, that isn't there.

    Raises:
      ConfigError: its compiler is missing or refuses.
    """
    return devices(chip, 1)[0] if chip.form == "tpu" else _gpu(chip)


def devices(chip: Chip, count: int) -> list[jax.Device]:
    """The devices of a slice of TPUs to compile for, that aren't there.

    Raises:
      ConfigError: the compiler is missing or refuses, or there is no slice of so many.
    """
    sizes = [1, *(2**power for power in range(2, chip.most.bit_length()))]
    if count not in sizes:
        raise ConfigError(f"there are slices of {', '.join(map(str, sizes))} {chip.title}, and none of {count}")
    power = max(count, sizes[1]).bit_length() - 1  # libtpu knows a single chip as part of the smallest slice
    sides = sorted((2 ** ((power + more) // chip.axes) for more in range(chip.axes)), reverse=count <= sizes[1])
    if not importlib.util.find_spec("libtpu"):
        raise ConfigError(f"no compiler for {chip.title}: libtpu is not installed (pip install -e '.[aot]')")
    os.environ.update(AWAY)
    name = f"{chip.target}:{'x'.join(map(str, sides))}"
    try:
        return list(topologies.get_topology_desc(platform="tpu", topology_name=name).devices)[:count]
    except Exception as error:  # JAX names no class for it
        line = str(error).splitlines()[0]
        if "lockfile" in line:
            raise ConfigError(
                "libtpu is locked by another process (/tmp/libtpu_lockfile): wait for its end, or set "
                "ALLOW_MULTIPLE_LIBTPU_LOAD=1 to compile beside it"
            ) from None
        raise ConfigError(f"no compiler for {chip.title}: {line}") from None


def _gpu(chip: Chip) -> jax.Device:
    target = (TARGETS / chip.target).read_text()
    try:
        found = topologies.get_topology_desc(platform="cuda", topology_name="", topology="1x1x1", target_config=target)
        return found.devices[0]
    except Exception as error:  # JAX names no class for it
        line = str(error).splitlines()[0]
        raise ConfigError(
            f"no compiler for {chip.title}: JAX's CUDA plugin is not installed (pip install -e '.[cuda12]') or refuses "
            f"({line})"
        ) from None
