"""A step on 8 devices, however they share the work, is the step of one; and only parameters are ever gathered."""

import dataclasses
import itertools
import re

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from fftnet_jax.config import MeshConfig, ModelConfig, TrainingConfig
from fftnet_jax.errors import ConfigError
from fftnet_jax.models import build_model
from fftnet_jax.parallel import sequence
from fftnet_jax.parallel.hosts import Vote
from fftnet_jax.parallel.mesh import build_mesh, place_batch
from fftnet_jax.runs.folder import read_metrics
from fftnet_jax.training import Interrupted, train
from fftnet_jax.training.optimizer import build_optimizer, learning_rate_schedule
from fftnet_jax.training.state import init_state
from fftnet_jax.training.step import make_train_step

STEPS = 20
MESHES = ((8, 1, 1), (2, 4, 1), (2, 2, 2), (1, 1, 8))
HEADS = ((2, 2, 2), (2, 1, 4))  # 4 heads split over 4 devices at most
SCANNED = {"remat": True, "scan_layers": True}
CASES = {
    "causal_fftnet": ({"mixer": "causal_fftnet", "vocab_size": 96, "positions": "learned"}, MESHES, 1),
    # A window of 20 tokens reaches over three devices' 8 tokens each.
    "causal_stft": ({"mixer": "causal_stft", "window": 20, "vocab_size": 96, "positions": "sinusoidal"}, MESHES[2:], 2),
    "attention": ({"mixer": "attention", "vocab_size": 97, "tie_head": False}, HEADS, 1),
    "fftnet": ({"family": "encoder", "mixer": "fftnet", "vocab_size": 96, "filter": "frequency"}, MESHES[2:], 1),
    "fourier": ({"family": "encoder", "mixer": "fourier", "vocab_size": 96}, MESHES[2:3], 1),
    "large vocabulary, remat": ({"mixer": "causal_fftnet", "vocab_size": 4096, "remat": True}, MESHES[2:3], 2),
    "scanned, remat": ({"mixer": "causal_fftnet", "num_layers": 2, "vocab_size": 96} | SCANNED, MESHES[2:3], 1),
}


def make_batches(vocabulary):
    """Rows that are easy to learn, of which some tokens don't count."""
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        ids = np.cumsum(rng.integers(0, 2, (32, 65), np.int32), axis=1) % vocabulary
        yield {"inputs": ids[:, :-1], "targets": ids[:, 1:], "weights": (rng.random((32, 64)) < 0.7).astype(np.float32)}


def run(mesh, model, accumulation):
    """Losses of a small model, bytes of its state on a device, the compiled step, and the shapes of its parameters."""
    training = TrainingConfig(num_steps=STEPS, warmup_steps=2, learning_rate=3e-3, accumulation=accumulation)
    optimizer = build_optimizer(training, learning_rate_schedule(training, STEPS, 5))
    state = init_state(model, optimizer, 0, mesh)
    held = sum(leaf.addressable_data(0).nbytes for leaf in jax.tree.leaves((state.params, state.opt_state)))
    batches = [place_batch(batch, mesh, 32) for batch in make_batches(model.config.vocab_size)]
    step = jax.jit(make_train_step(model, optimizer, 0, accumulation, mesh=mesh), donate_argnums=0)
    step = step.lower(state, batches[0]).compile()
    losses = []
    for batch in batches:
        state, metrics = step(state, batch)
        losses.append(metrics["loss"].item())
    return np.array(losses), held, step.as_text(), {tuple(sorted(leaf.shape)) for leaf in jax.tree.leaves(state.params)}


@pytest.mark.parametrize("case", CASES)
def test_mesh_changes_nothing_but_who_works(case, devices):
    options, meshes, accumulation = CASES[case]
    model = build_model(ModelConfig(**{"num_layers": 1, "width": 32, "ffn_width": 48, "max_length": 64} | options))
    unrolled = build_model(dataclasses.replace(model.config, scan_layers=False))
    with jax.numpy_rank_promotion("raise"):
        alone, held_alone, _, parameters = run(build_mesh(), unrolled, accumulation)
        assert alone[-1] < 0.97 * alone[0], "nothing was learnt: the comparison would show little"
        devices(8)
        for sizes in meshes:
            losses, held, hlo, _ = run(build_mesh(MeshConfig(*sizes)), model, accumulation)
            off = np.abs(losses / alone - 1)
            assert off[0] <= 1e-5 and off[-1] <= 1e-4, (sizes, off)
            assert held / held_alone <= 1.15 / (sizes[1] * sizes[2]) + 0.02, (sizes, held, held_alone)
            for shape in re.findall(r"= f32\[([\d,]*)\][^ ]* all-gather", hlo):
                assert tuple(sorted(map(int, shape.split(",")))) in parameters, f"{sizes}: an activation is gathered"
            assert "(f32" not in " ".join(re.findall(r"= (\(f32.*) all-gather", hlo))


def test_tokens_of_neighbours_and_channels(devices):
    mesh = jax.make_mesh((8,), ("model",), axis_types=(AxisType.Auto,), devices=devices(8))
    x_BND = np.random.default_rng(0).normal(size=(2, 24, 16)).astype(np.float32)
    over = PartitionSpec(None, "model")

    def on_devices(function):
        def local(x):
            with sequence.split_over("model"):
                return function(x)

        return jax.jit(jax.shard_map(local, mesh=mesh, in_specs=over, out_specs=over, check_vma=False))(x_BND)

    for count in (1, 3, 4, 7, 21, 24, 40):
        padded = np.pad(x_BND, ((0, 0), (count, 0), (0, 0)))
        wanted = np.concatenate([padded[:, start : start + count] for start in range(0, 24, 3)], axis=1)
        np.testing.assert_array_equal(on_devices(lambda x: sequence.before(x, count)), wanted)  # noqa: B023
    np.testing.assert_array_equal(on_devices(lambda x: sequence.to_tokens(2 * sequence.to_channels(x))), 2 * x_BND)
    means = on_devices(lambda x: sequence.mean(x)[:, None])
    np.testing.assert_allclose(means, np.repeat(x_BND.mean(axis=1)[:, None], 8, axis=1), atol=1e-6)


@pytest.mark.parametrize("sizes", [(3, 1, 1), (-1, 3, 1), (1, 1, 1), (2, 2, 4)])
def test_mesh_must_be_all_devices(sizes):
    with pytest.raises(ConfigError, match=r"must be the number of devices \(8\), got " + " × ".join(map(str, sizes))):
        build_mesh(MeshConfig(*sizes), jax.devices() * 8)


def test_checkpoint_of_one_mesh_goes_on_on_another(trained_alone, tiny, devices, tmp_path, monkeypatch):
    """8 devices, then 4, then one: the figures of a run that was on one all the time."""
    (undisturbed, overrides), folder = trained_alone, tmp_path / "run"
    for count, mesh in ((8, ["mesh.data=8"]), (4, ["mesh.fsdp=2", "mesh.model=2"])):
        devices(count)
        calls = itertools.count(1)
        with monkeypatch.context() as patch, pytest.raises(Interrupted):
            patch.setattr(Vote, "__call__", lambda vote, asked: next(calls) == 10)  # noqa: B023
            train(tiny(*overrides, *mesh), folder)
    devices(1)
    train(tiny(*overrides), folder)
    ours, theirs = read_metrics(folder / "metrics.jsonl"), read_metrics(undisturbed / "metrics.jsonl")
    assert [row["step"] for row in ours] == [row["step"] for row in theirs]
    for key in ("train/loss", "val/loss"):
        a, b = ([row[key] for row in rows if row.get(key) is not None] for rows in (ours, theirs))
        np.testing.assert_allclose(a, b, rtol=1e-4)
