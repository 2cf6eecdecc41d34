"""Where arrays live: one mesh over all devices, placements by path, and what travels between devices in a step.

Axes of the mesh: `data` and `fsdp` share the rows of a batch, `model` the tokens of each row. Parameters, and what the
optimiser keeps of them, are split over `fsdp` and `model`; each device gathers them whole to use them (with
`model.remat` in the backward pass again) and gets back its part of the gradients, added up. Activations are never
gathered: rows are independent, and mixers exchange tokens for channels (`fftnet_jax.parallel.sequence`).

Source of the split parameters: ZeRO, stage 3 (Rajbhandari et al. 2020, arXiv 1910.02054).
"""

import math
import re
from collections.abc import Callable

import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from fftnet_jax.config import Config, MeshConfig
from fftnet_jax.config.model import SPLIT_CHECKS
from fftnet_jax.errors import ConfigError
from fftnet_jax.ops.select import compiled_for
from fftnet_jax.parallel import sequence
from fftnet_jax.parallel.split_parameters import gathered_by

AXES = ("data", "fsdp", "model")
ROWS, TOKENS, PARAMETERS = ("data", "fsdp"), "model", ("fsdp", "model")
BATCH = PartitionSpec(ROWS, TOKENS)
# By parameter path, first match: the axes of the array to split, the first that divides evenly. Vectors stay whole:
# all of them together are less than one matrix.
PARAMETER_RULES = (
    (r"embedding$", (0, 1)),
    (r"kernel$", (0, 1)),
    (r"(mix|taps|base)$", (1,)),
    (r"", ()),
)


def build_mesh(config: MeshConfig | None = None, devices: list | None = None) -> Mesh:
    """The mesh that the configuration asks for, over all devices.

    Raises:
      ConfigError: its axes don't multiply to the number of devices.
    """
    c, devices = config or MeshConfig(), devices or jax.devices()
    rest = c.fsdp * c.model
    data = len(devices) // rest if c.data == -1 else c.data
    if data * rest != len(devices):
        raise ConfigError(
            f"mesh.data × mesh.fsdp × mesh.model must be the number of devices ({len(devices)}), "
            f"got {c.data} × {c.fsdp} × {c.model}"
        )
    # Not jax.make_mesh, which refuses axes of 16 on a TPU v5p slice of 4 × 8 × 8 (jax 0.10.2).
    placed = mesh_utils.create_device_mesh((data, c.fsdp, c.model), devices, allow_split_physical_axes=True)
    return Mesh(placed, AXES, axis_types=(AxisType.Auto,) * 3)


def check_divisible(config: Config, mesh: Mesh) -> None:
    """Raises ConfigError unless batches, sequences and what mixers exchange split evenly over the mesh."""
    t, m = config.training, config.model
    rows, parts = math.prod(mesh.shape[axis] for axis in ROWS), mesh.shape[TOKENS]
    if config.data.batch_size % (rows * t.accumulation):
        raise ConfigError(
            f"data.batch_size must be a multiple of devices × training.accumulation "
            f"({rows} × {t.accumulation}), got {config.data.batch_size}"
        )
    if t.eval_batch_size % rows:
        raise ConfigError(
            f"training.eval_batch_size must be a multiple of the devices ({rows}), got {t.eval_batch_size}"
        )
    for name, value in (("data.length", config.data.length), ("model.width", m.width)):
        if value % parts:
            raise ConfigError(f"{name} must be a multiple of mesh.model ({parts}), got {value}")
    for name in dict.fromkeys(m.mixers):
        SPLIT_CHECKS[name](m, parts)
    if parts > 1 and config.distillation.active and not config.distillation.shards:
        raise ConfigError(
            f"mesh.model must be 1 for a teacher that runs in every step, which reads whole sequences, got {parts}; "
            f"write its shards first: distillation.shards"
        )


def parameter_specs(tree, mesh: Mesh):
    """How each leaf (an array or its shape) is split, by the first rule that matches its path."""

    def place(path, leaf):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        axes = next(axes for pattern, axes in PARAMETER_RULES if re.search(pattern, name))
        for names in (PARAMETERS, PARAMETERS[:1]):
            parts = math.prod(mesh.shape[axis] for axis in names)
            for axis in axes:
                if parts > 1 and leaf.ndim > axis and leaf.shape[axis] % parts == 0:
                    return PartitionSpec(*[None] * axis, tuple(name for name in names if mesh.shape[name] > 1))
        return PartitionSpec()

    return jax.tree_util.tree_map_with_path(place, tree)


def state_sharding(tree, mesh: Mesh):
    """A sharding for each leaf of parameters or of a whole train state."""
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), parameter_specs(tree, mesh))


def batch_sharding(mesh: Mesh, axes: int = 2) -> NamedSharding:
    """An array of a batch, of so many axes: split by rows, and rows by tokens."""
    return NamedSharding(mesh, PartitionSpec(*BATCH[:axes]))


def own_rows(mesh: Mesh, batch_size: int) -> slice:
    """The rows of a batch that this process's devices work on; others it need not read."""
    places = NamedSharding(mesh, PartitionSpec(ROWS)).addressable_devices_indices_map((batch_size,)).values()
    bounds = [rows.indices(batch_size) for (rows,) in places]
    return slice(min(start for start, *_ in bounds), max(stop for _, stop, _ in bounds))


def place_batch(batch: dict, mesh: Mesh, batch_size: int) -> dict:
    """A batch of `batch_size` rows on its devices; `batch` holds this process's rows of it, see `own_rows`."""
    if jax.process_count() == 1:
        return jax.device_put(batch, jax.tree.map(lambda array: batch_sharding(mesh, array.ndim), batch))
    first = own_rows(mesh, batch_size).start

    def place(array):
        def part(index):
            start, stop, _ = index[0].indices(batch_size)
            return array[start - first : stop - first, *index[1:]]

        return jax.make_array_from_callback((batch_size, *array.shape[1:]), batch_sharding(mesh, array.ndim), part)

    return {name: place(array) for name, array in batch.items()}


def replicated(tree, mesh: Mesh):
    """The arrays of `tree`, whole on every device."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def whole(tree, mesh: Mesh):
    """The arrays of `tree`, whole on one device of this process; every process must ask for them."""
    if mesh.size == 1:
        return tree
    copied = jax.jit(lambda x: x, out_shardings=NamedSharding(mesh, PartitionSpec()))(tree)
    return jax.tree.map(lambda x: x.addressable_data(0), copied)


class Devices:
    """What one device does of a step, under `shard_map`; with one device nothing is added to the plain step.

    Loss and gradients inside are of the device's own rows and tokens; `total` makes them those of the whole batch.

    Args:
      mesh: None for one device.
      params: the whole parameters, or their shapes.
      by_block: gather each block's parameters inside the block: where it is rematerialised, once more for the backward
        pass. (One checkpoint around everything would not do: JAX's policies can't keep complex numbers, which FFTs
        leave, and they overrule those of the blocks.)
    """

    def __init__(self, mesh: Mesh | None, params, by_block: bool = False):
        self.mesh = mesh if mesh is not None and mesh.size > 1 else None
        self._devices = mesh.devices.flat if mesh is not None else ()
        self._specs = parameter_specs(params, mesh) if self.mesh else None
        self._by_block = by_block

    def run(self, function: Callable, params, batch, *rest, has_tree: bool):
        """`function(params, batch, *rest)` on every device, each with its part of parameters and batch.

        Args:
          has_tree: the function's result is a pair: a tree like the parameters, and what is the same on all devices;
            else only the latter.
        """
        with compiled_for(self._devices):
            return self._run(function, params, batch, *rest, has_tree=has_tree)

    def _run(self, function, params, batch, *rest, has_tree):
        if not self.mesh:
            return function(params, batch, *rest)
        same = PartitionSpec()

        def local(params, batch, *rest):
            with sequence.split_over(TOKENS if self.mesh.shape[TOKENS] > 1 else None):
                return function(params, batch, *rest)

        placed = jax.shard_map(
            local,
            mesh=self.mesh,
            in_specs=(self._specs, jax.tree.map(lambda x: PartitionSpec(*BATCH[: x.ndim]), batch), *[same] * len(rest)),
            out_specs=(self._specs, same) if has_tree else same,
            check_vma=False,  # gradients are of each device's own loss, and added up by `total`
        )
        return placed(params, batch, *rest)

    def own_key(self, key: jax.Array) -> jax.Array:
        """A random key of this device's own."""
        return jax.random.fold_in(key, jax.lax.axis_index(AXES)) if self.mesh else key

    def with_whole(self, function: Callable) -> Callable:
        """`function(params, …)`, to be called with this device's part of the parameters.

        In the backward pass each device's part of the gradients is added up on the way.
        """
        if not self.mesh:
            return function

        def gather(name, part):
            return jax.tree.map(_gather, part, self._specs[name])

        def gathered(params, *rest, **options):
            in_blocks = {name for name in params if self._by_block and name.startswith("blocks")}
            parts = {name: part if name in in_blocks else gather(name, part) for name, part in params.items()}
            with gathered_by(gather if in_blocks else None):
                return function(parts, *rest, **options)

        return gathered

    def total(self, values):
        """Sums over all devices."""
        return jax.lax.psum(values, AXES) if self.mesh else values

    def total_gradients(self, grads):
        """Sums over the devices for which `with_whole` has not added them up."""
        if not self.mesh:
            return grads

        def add(grad, spec):
            return jax.lax.psum(grad, tuple(axis for axis in AXES if axis not in _axes(spec)))

        return jax.tree.map(add, grads, self._specs)


def _axes(spec):
    """The mesh axes that split an array."""
    return spec[-1] if len(spec) else ()


def _gather(shard, spec):
    if not _axes(spec):
        return shard
    return jax.lax.all_gather(shard, _axes(spec), axis=len(spec) - 1, tiled=True)
