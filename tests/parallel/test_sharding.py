from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from fftnet_jax import ops
from fftnet_jax.errors import ConfigError
from fftnet_jax.parallel.mesh import Devices, build_mesh, check_divisible, parameter_specs, state_sharding


def mesh_of(data, fsdp=1, model=1):
    return SimpleNamespace(shape={"data": data, "fsdp": fsdp, "model": model})


@pytest.mark.parametrize(
    "overrides, mesh, words",
    [
        ((), (3,), r"data.batch_size must be a multiple of devices .* \(3 × 1\), got 4"),
        ((), (2, 4), r"data.batch_size must be a multiple of devices .* \(8 × 1\), got 4"),
        (("training.accumulation=2",), (4,), r"\(4 × 2\), got 4"),
        (("training.eval_batch_size=3",), (2,), r"eval_batch_size must be a multiple of the devices \(2\), got 3"),
        (("data.length=18",), (1, 1, 4), r"data.length must be a multiple of mesh.model \(4\), got 18"),
        (("model.width=6",), (1, 1, 4), r"model.width must be a multiple of mesh.model \(4\), got 6"),
        (
            ("model.mixer=attention", "model.width=12", "model.num_heads=2"),
            (1, 1, 4),
            r"model.num_heads must be a multiple of mesh.model \(4\), got 2",
        ),
        (("distillation.teacher=smollm2",), (1, 1, 2), r"mesh.model must be 1 for a teacher .*, got 2"),
    ],
)
def test_work_must_split_evenly(overrides, mesh, words, tiny):
    with pytest.raises(ConfigError, match=words):
        check_divisible(tiny(*overrides), mesh_of(*mesh))
    check_divisible(tiny(*overrides), mesh_of(1))


def test_matrices_are_split_and_vectors_are_whole():
    shapes = {
        "embeddings": {"token": {"embedding": (99, 8)}},
        "blocks_0": {"ffn": {"kernel": (8, 24), "bias": (24,)}, "odd": {"kernel": (3, 5)}, "mixer": {"mix": (6, 8)}},
        "half": {"kernel": (2, 7)},
    }
    tree = jax.tree.map(lambda s: jnp.zeros(s), shapes, is_leaf=lambda s: isinstance(s, tuple))
    specs = parameter_specs(tree, mesh_of(1, 2, 2))
    both = ("fsdp", "model")
    assert specs["embeddings"]["token"]["embedding"] == PartitionSpec(None, both)  # 99 does not divide
    assert specs["blocks_0"]["ffn"] == {"kernel": PartitionSpec(both), "bias": PartitionSpec()}
    assert specs["blocks_0"]["odd"]["kernel"] == PartitionSpec()
    assert specs["blocks_0"]["mixer"]["mix"] == PartitionSpec(None, both)
    assert specs["half"]["kernel"] == PartitionSpec(("fsdp",))


def test_parameters_are_whole_on_one_device():
    placed = state_sharding({"blocks_0": {"kernel": jnp.zeros((4, 4))}}, build_mesh())
    assert placed["blocks_0"]["kernel"].spec == PartitionSpec()


def test_operations_follow_the_mesh():
    seen = Devices(build_mesh(), {}).run(lambda *_: ops.explain(), {}, {}, has_tree=False)
    assert seen == ("cpu", "the program is compiled for a CPU")
