"""Where arrays live: one mesh over all devices, placements by path."""

import re

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from fftnet_jax.config import ConfigError

# First match by parameter path wins. Everything is replicated: data parallelism needs no more.
PARAMETER_RULES = ((r".*", PartitionSpec()),)


def build_mesh() -> Mesh:
    """All devices along one axis, `data`."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def check_divisible(batch_size: int, accumulation: int, mesh: Mesh) -> None:
    """Raises ConfigError unless each micro-batch splits evenly over the mesh."""
    parts = mesh.shape["data"] * accumulation
    if batch_size % parts:
        raise ConfigError(
            f"data.batch_size must be a multiple of devices × training.accumulation "
            f"({mesh.shape['data']} × {accumulation}), got {batch_size}"
        )


def state_sharding(tree, mesh: Mesh):
    """A sharding for each leaf, by the first rule that matches its path."""

    def place(path, leaf):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        spec = next(spec for pattern, spec in PARAMETER_RULES if re.search(pattern, name))
        return NamedSharding(mesh, spec)

    return jax.tree_util.tree_map_with_path(place, tree)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Batches split by rows."""
    return NamedSharding(mesh, PartitionSpec("data"))
