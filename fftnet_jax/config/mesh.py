"""Devices."""

from dataclasses import dataclass

from fftnet_jax.config.fields import FREE, Section, knob
from fftnet_jax.errors import ConfigError


@dataclass(frozen=True)
class MeshConfig(Section):
    """How a run is laid over its devices, of one host or many; see `fftnet_jax.parallel.mesh`."""

    prefix = "mesh."
    resume = FREE

    data: int = knob(-1, "devices that share the rows of a batch; -1 for all that the other axes leave", minimum=-1)
    fsdp: int = knob(1, "devices that share rows, and keep a part of the parameters each", minimum=1)
    model: int = knob(1, "devices that share the tokens of a row, and keep a part of the parameters each", minimum=1)

    def __post_init__(self):
        super().__post_init__()
        if self.data == 0:
            raise ConfigError("mesh.data must be at least 1, or -1 for all devices that the other axes leave, got 0")
