import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fftnet_jax.config import ModelConfig
from fftnet_jax.models import build_model
from fftnet_jax.parallel.mesh import build_mesh
from fftnet_jax.training.state import init_state
from fftnet_jax.training.step import make_gradients, make_train_step

CONFIG = {"mixer": "causal_stft", "window": 3, "vocab_size": 11, "width": 8, "num_layers": 1, "ffn_width": 8}


@pytest.fixture(scope="module")
def batch():
    """8 rows of which the later ones have ever fewer tokens that count, the last none."""
    rng = np.random.default_rng(0)
    weights = (np.arange(6)[None] < np.array([6, 6, 6, 5, 3, 1, 1, 0])[:, None]).astype(np.float32)
    ids = rng.integers(0, 11, (8, 7), dtype=np.int32)
    return {"inputs": ids[:, :-1], "targets": ids[:, 1:], "weights": weights}


@pytest.fixture(scope="module")
def started():
    model, optimizer = build_model(ModelConfig(**CONFIG)), optax.adamw(0.01)
    return model, optimizer, lambda: init_state(model, optimizer, 0, build_mesh())


def test_accumulation_changes_nothing(batch, started):
    model, _, state = started
    params = state().params
    whole, sums = jax.jit(make_gradients(model, 0, 1))(params, batch, 0)
    parts, part_sums = jax.jit(make_gradients(model, 0, 4))(params, batch, 0)
    assert sums["count"] == part_sums["count"] == batch["weights"].sum()
    for a, b in zip(jax.tree.leaves((whole, sums)), jax.tree.leaves((parts, part_sums)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_gradient_is_of_the_mean_over_real_tokens(batch, started):
    model, _, state = started
    params = state().params

    def mean_loss(params):
        logp = jax.nn.log_softmax(model.apply({"params": params}, batch["inputs"]))
        losses = -jnp.take_along_axis(logp, batch["targets"][..., None], axis=-1)[..., 0]
        return losses[batch["weights"] > 0].mean()

    wanted = jax.grad(mean_loss)(params)
    grads, _ = jax.jit(make_gradients(model, 0, 2))(params, batch, 0)
    for a, b in zip(jax.tree.leaves(wanted), jax.tree.leaves(grads), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_update_that_is_not_finite_is_left_out_to_the_bit(poison, batch, started):
    model, optimizer, state = started
    step = jax.jit(make_train_step(model, optimizer, 0))
    state, _ = step(state(), batch)
    bad = {**batch, "weights": np.full_like(batch["weights"], poison)}
    seen = [(1, 1), (2, 2)]
    after = state
    for skipped, in_a_row in seen:
        after, metrics = step(after, bad)
        assert (int(metrics["skipped"]), int(metrics["skipped_in_a_row"])) == (skipped, in_a_row)
    for name in ("params", "opt_state"):
        pairs = zip(jax.tree.leaves(getattr(state, name)), jax.tree.leaves(getattr(after, name)), strict=True)
        assert all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)
    assert int(after.step) == 3
    good, metrics = step(after, batch)
    assert (int(good.skipped), int(good.skipped_in_a_row)) == (2, 0)
    assert np.isfinite(metrics["loss"])
    changed = zip(jax.tree.leaves(good.params), jax.tree.leaves(after.params), strict=True)
    assert any((np.asarray(a) != np.asarray(b)).any() for a, b in changed)


def test_dropout_depends_on_seed_and_step_alone(batch):
    model = build_model(ModelConfig(**CONFIG, dropout=0.5))
    params = init_state(model, optax.sgd(1.0), 0, build_mesh()).params
    gradients = {seed: jax.jit(make_gradients(model, seed)) for seed in (0, 1)}
    loss = {(seed, step): float(gradients[seed](params, batch, step)[1]["loss"]) for seed in (0, 1) for step in (4, 5)}
    assert len(set(loss.values())) == 4
    assert float(gradients[0](params, batch, 4)[1]["loss"]) == loss[0, 4]
