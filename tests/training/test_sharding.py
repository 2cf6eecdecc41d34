from types import SimpleNamespace

import pytest
from jax.sharding import PartitionSpec

from fftnet_jax.config import ConfigError
from fftnet_jax.training.sharding import build_mesh, check_divisible, state_sharding


@pytest.mark.parametrize(
    "overrides, devices, words",
    [
        ((), 3, r"data.batch_size must be a multiple of devices .* \(3 × 1\), got 4"),
        (("training.accumulation=2",), 4, r"\(4 × 2\), got 4"),
        (
            ("training.eval_batch_size=3",),
            2,
            r"training.eval_batch_size must be a multiple of the devices \(2\), got 3",
        ),
    ],
)
def test_batches_must_split_evenly(overrides, devices, words, tiny):
    with pytest.raises(ConfigError, match=words):
        check_divisible(tiny(*overrides), SimpleNamespace(shape={"data": devices}))
    check_divisible(tiny(*overrides), SimpleNamespace(shape={"data": 1}))


def test_parameters_are_replicated():
    placed = state_sharding({"blocks_0": {"kernel": 1.0}}, build_mesh())
    assert placed["blocks_0"]["kernel"].spec == PartitionSpec()
