import logging
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fftnet_jax.config import ConfigError
from fftnet_jax.data import TokenWindows, train_batches
from fftnet_jax.training.checkpoints import Checkpoints
from fftnet_jax.training.state import TrainState


def state_at(step):
    zero, params = jnp.zeros((), jnp.int32), {"w": jnp.full((3,), float(step))}
    return TrainState(jnp.asarray(step, jnp.int32), params, optax.adam(0.1).init(params), zero, zero)


@pytest.fixture
def iterator():
    iterator = train_batches(TokenWindows(np.arange(50), 4), 2, 0)
    yield iterator
    iterator.close()


@pytest.fixture
def saved(iterator, tmp_path):
    """Saves one checkpoint per (step, validation loss) and closes."""

    def save(*losses):
        checkpoints = Checkpoints(tmp_path / "checkpoints")
        for step, loss in losses:
            checkpoints.save(state_at(step), iterator, {"best": None}, loss)
        checkpoints.wait()
        checkpoints.close()
        return tmp_path / "checkpoints"

    return save


@pytest.mark.parametrize(
    "losses, kept, best",
    [
        ([(1, 3.0), (2, 1.0), (3, 2.0), (4, 2.5), (5, 2.2)], {2, 4, 5}, 2),
        ([(1, 1.0), (2, None), (3, None), (4, None)], {1, 3, 4}, 1),
        ([(1, 5.0), (2, math.nan), (3, math.inf), (4, math.nan)], {1, 3, 4}, 1),
        ([(1, None), (2, None), (3, None)], {2, 3}, 3),
        ([(1, 2.0), (2, 2.0), (3, None), (4, None)], {2, 3, 4}, 2),
    ],
)
def test_best_and_two_latest_are_kept_and_told_apart(losses, kept, best, saved, caplog):
    with caplog.at_level(logging.WARNING):
        folder = saved(*losses)
    assert not caplog.records
    assert {int(path.name) for path in folder.iterdir()} == kept
    checkpoints, shapes = Checkpoints(folder, read_only=True), {"w": jnp.zeros(3)}
    for which, wanted in (("best", best), ("latest", losses[-1][0])):
        params, step = checkpoints.restore_params(shapes, which)
        assert step == wanted
        np.testing.assert_array_equal(params["w"], np.full(3, float(wanted)))
    checkpoints.close()


def test_state_data_and_meta_come_back(iterator, tmp_path):
    checkpoints = Checkpoints(tmp_path / "c")
    assert checkpoints.restore(state_at(0), iterator) is None
    for _ in range(3):
        next(iterator)
    checkpoints.save(state_at(7), iterator, {"best": 1.25}, None)
    coming = [next(iterator)["inputs"].tolist() for _ in range(3)]
    checkpoints.wait()
    state, meta = checkpoints.restore(state_at(0), iterator)
    checkpoints.close()
    assert meta == {"best": 1.25}
    assert jax.tree.structure(state) == jax.tree.structure(state_at(7))
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(state_at(7)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert [next(iterator)["inputs"].tolist() for _ in range(3)] == coming


def test_damage_is_one_line_that_says_what_to_do(saved, iterator):
    folder = saved((1, 1.0), (2, 2.0))
    for file in (folder / "2" / "params").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    checkpoints = Checkpoints(folder)
    with pytest.raises(ConfigError, match=r"checkpoints/2 can't be read .* delete that folder") as info:
        checkpoints.restore(state_at(0), iterator)
    assert "\n" not in str(info.value)
    checkpoints.close()


def test_nothing_to_read(tmp_path):
    (tmp_path / "c").mkdir()
    checkpoints = Checkpoints(tmp_path / "c", read_only=True)
    with pytest.raises(ConfigError, match=r"no checkpoint in .*train first"):
        checkpoints.restore_params({"w": jnp.zeros(3)})
    checkpoints.close()
    assert not list((tmp_path / "c").iterdir())
