"""Where arrays live: one mesh over all devices, placements by path."""

import re

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from fftnet_jax.config import Config, ConfigError

# First match by parameter path wins. Everything is replicated: data parallelism needs no more.
PARAMETER_RULES = ((r".*", PartitionSpec()),)


def build_mesh() -> Mesh:
    """All devices along one axis, `data`."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def check_divisible(config: Config, mesh: Mesh) -> None:
    """Raises ConfigError unless each micro-batch, and each evaluation batch, splits evenly over the mesh."""
    devices, t = mesh.shape["data"], config.training
    if config.data.batch_size % (devices * t.accumulation):
        raise ConfigError(
            f"data.batch_size must be a multiple of devices × training.accumulation "
            f"({devices} × {t.accumulation}), got {config.data.batch_size}"
        )
    if t.eval_batch_size % devices:
        raise ConfigError(
            f"training.eval_batch_size must be a multiple of the devices ({devices}), got {t.eval_batch_size}"
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


def replicated(tree, mesh: Mesh):
    """The arrays of `tree`, whole on every device."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))
