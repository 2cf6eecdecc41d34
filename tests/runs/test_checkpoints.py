import collections
import logging
import math
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fftnet_jax.data import TokenWindows, train_batches
from fftnet_jax.errors import ConfigError, StorageError
from fftnet_jax.runs.checkpoints import Checkpoints, damaged_steps, read_params, step_folders
from fftnet_jax.training.state import TrainState


def state_at(step):
    zero, params = jnp.zeros((), jnp.int32), {"w": jnp.full((3,), float(step))}
    return TrainState(jnp.asarray(step, jnp.int32), params, optax.adam(0.1).init(params), zero, zero, jnp.zeros(()))


@pytest.fixture
def iterator():
    iterator = train_batches(TokenWindows(np.arange(50), 4), 2, 0)
    yield iterator
    iterator.close()


@pytest.fixture
def saved(iterator, tmp_path):
    """Saves one checkpoint per (step, validation loss) and closes."""

    def save(*losses):
        (tmp_path / "config.json").write_text("{}")
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
    shapes = {"w": jnp.zeros(3)}
    for which, wanted in (("best", best), ("latest", losses[-1][0])):
        params, step = read_params(folder, shapes, which)
        assert step == wanted
        np.testing.assert_array_equal(params["w"], np.full(3, float(wanted)))


def test_state_data_and_meta_come_back(iterator, tmp_path):
    (tmp_path / "config.json").write_text("{}")
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


def test_nothing_to_read(tmp_path):
    (tmp_path / "c").mkdir()
    with pytest.raises(ConfigError, match=r"no checkpoint in .*train first"):
        read_params(tmp_path / "c", {"w": jnp.zeros(3)})
    assert not list((tmp_path / "c").iterdir())


def test_other_parameters_are_refused_in_one_line(saved):
    folder = saved((1, 1.0))
    with pytest.raises(ConfigError, match=r"checkpoints/1 is whole but can't be read as this run's") as info:
        read_params(folder, {"w": jnp.zeros(4)})
    assert "\n" not in str(info.value)


def damages(folder, other):
    """Every way in which files get lost, each at a dozen places of the step in `folder`: how, where, whom it hurts."""
    files = sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: (path.name, path))
    files = [*files[:: max(1, len(files) // 12)], folder / "seal.json"]
    twin = {path: other / path.relative_to(folder) for path in files}

    def truncate(path):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    def flip(path):
        data = bytearray(path.read_bytes())
        data[len(data) // 3] ^= 16
        path.write_bytes(data)

    def swap(path):
        mine, theirs = path.read_bytes(), twin[path].read_bytes()
        path.write_bytes(theirs), twin[path].write_bytes(mine)

    def empty(path):
        shutil.rmtree(path.parent)
        path.parent.mkdir()

    for path in files:
        if path.stat().st_size:
            yield truncate, path, {"2"}
            yield flip, path, {"2"}
        yield Path.unlink, path, {"2"}
        if twin[path].is_file() and twin[path].read_bytes() != path.read_bytes():
            yield swap, path, {"1", "2"}
        yield empty, path, {"2"}


def test_every_damage_is_found_and_the_step_before_is_taken(saved, tmp_path, capsys):
    folder = saved((0, 0.9), (1, 1.0), (2, 1.0))
    whole = shutil.copytree(folder, tmp_path / "whole")
    assert not damaged_steps(folder) and len(step_folders(folder)) == 3
    tried = collections.Counter()
    for damage, path, hurt in list(damages(folder / "2", folder / "1")):
        damage(path)
        assert damaged_steps(folder).keys() == hurt, (damage.__name__, path)
        tried[damage.__name__] += 1
        if tried[damage.__name__] == 1:  # what is done about it depends on the damaged steps alone
            params, step = read_params(folder, {"w": jnp.zeros(3)}, "latest")
            assert step == (0 if "1" in hurt else 1) and params["w"].tolist() == [step] * 3
            assert "is passed over" in capsys.readouterr().err
        for step in hurt:
            shutil.rmtree(folder / step)
            shutil.copytree(whole / step, folder / step)
    assert min(tried.values()) >= 4 and len(tried) == 5 and tried.total() >= 60, tried


def test_damaged_newest_step_is_set_aside_and_written_again(saved, iterator, capsys):
    folder = saved((1, 1.0), (2, 2.0))
    (folder / "9").mkdir()
    next((folder / "2" / "params").rglob("d/*")).write_bytes(b"")
    checkpoints = Checkpoints(folder)
    state, _ = checkpoints.restore(state_at(0), iterator)
    assert int(state.step) == 1
    checkpoints.save(state_at(2), iterator, {"best": None}, None)
    checkpoints.wait()
    checkpoints.close()
    assert not damaged_steps(folder) and [path.name for path in step_folders(folder)] == ["1", "2"]
    assert sorted(path.name for path in (folder.parent / "damaged").iterdir()) == ["2", "9"]
    assert capsys.readouterr().err.count("is passed over") == 2


def test_seals_and_names_must_agree(saved):
    folder = saved((1, 1.0), (2, 2.0))
    (folder / "1").rename(folder / "3")
    assert damaged_steps(folder) == {"3": "it is step 1"}
    (folder / "2" / "more").mkdir()
    assert damaged_steps(folder)["2"] == "more was not there"


def test_vanished_folder_is_one_line(saved, iterator, tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    with pytest.raises(StorageError, match="vanished"):
        checkpoints.save(state_at(1), iterator, {"best": None}, None)
    checkpoints.close()
