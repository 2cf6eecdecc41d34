import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fftnet_jax.config import ModelConfig, TrainingConfig
from fftnet_jax.models import build_model
from fftnet_jax.training.optimizer import build_optimizer, learning_rate_schedule


def schedule(num_steps=100, steps_per_epoch=10, **kwargs):
    made = learning_rate_schedule(TrainingConfig(learning_rate=0.5, **kwargs), num_steps, steps_per_epoch)
    return lambda step: float(made(step))


@pytest.mark.parametrize("name", ["cosine", "linear", "exponential", "constant"])
def test_warm_up_rises_to_the_peak_in_equal_steps(name):
    rate = schedule(schedule=name, warmup_steps=20)
    assert [rate(step) for step in range(20)] == pytest.approx([0.5 * (step + 1) / 20 for step in range(20)])
    assert rate(20) == pytest.approx(0.5)


@pytest.mark.parametrize("warmup", [0, 1, 7])
@pytest.mark.parametrize("name, middle", [("cosine", 0.3), ("linear", 0.3)])
def test_decay_ends_at_the_final_fraction(name, middle, warmup):
    rate = schedule(schedule=name, warmup_steps=warmup, final_fraction=0.2, num_steps=100 + warmup)
    assert rate(warmup) == pytest.approx(0.5)
    assert rate(warmup + 50) == pytest.approx(middle)
    assert rate(warmup + 100) == pytest.approx(0.1)
    rates = [rate(step) for step in range(warmup, warmup + 101)]
    assert rates == sorted(rates, reverse=True)


def test_cosine_is_a_cosine():
    rate = schedule(schedule="cosine", warmup_steps=0, final_fraction=0.0)
    assert rate(25) == pytest.approx(0.25 * (1 + np.cos(np.pi / 4)))


def test_exponential_falls_once_an_epoch():
    rate = schedule(schedule="exponential", warmup_steps=0, decay_per_epoch=0.9)
    for epoch in range(5):
        assert rate(10 * epoch) == rate(10 * epoch + 9) == pytest.approx(0.5 * 0.9**epoch)


def test_constant_stays_and_warm_up_may_be_longer_than_the_run():
    assert schedule(schedule="constant", warmup_steps=0)(99) == 0.5
    assert schedule(warmup_steps=1000, num_steps=10)(9) == pytest.approx(0.5)


@pytest.fixture(scope="module")
def params():
    config = ModelConfig(
        mixer=("attention", "causal_fftnet"), num_layers=2, width=8, num_heads=2, vocab_size=5, tie_head=False
    )
    params = build_model(config).init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32))["params"]
    return jax.tree.map(lambda p: p + 0.1, params)  # no zeros, which weight decay would leave alone


def updates_for(params, grads, **kwargs):
    settings = {"learning_rate": 0.1, "clip_norm": 0.0, **kwargs}
    optimizer = build_optimizer(TrainingConfig(**settings), optax.constant_schedule(0.1))
    updates, _ = jax.jit(optimizer.update)(grads, optimizer.init(params), params)
    return {
        jax.tree_util.keystr(k, simple=True, separator="/"): v for k, v in jax.tree_util.tree_leaves_with_path(updates)
    }


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_weight_decay_is_on_matrices_alone(optimizer, params):
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates = updates_for(params, zeros, optimizer=optimizer, weight_decay=0.5)
    shapes = {np.ndim(update) for update in updates.values()}
    assert {1, 2} <= shapes
    for (path, update), p in zip(updates.items(), jax.tree.leaves(params), strict=True):
        wanted = -0.1 * 0.5 * p if p.ndim >= 2 else jnp.zeros_like(p)
        np.testing.assert_allclose(update, wanted, rtol=1e-5, atol=1e-8, err_msg=path)


def test_muon_is_on_the_dense_kernels_in_blocks_alone(params):
    rng = np.random.default_rng(0)
    grads = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), jnp.float32), params)
    muon = updates_for(params, grads, optimizer="muon", weight_decay=0.0)
    adamw = updates_for(params, grads, optimizer="adamw", weight_decay=0.0)
    differs = {path for path in muon if not np.allclose(muon[path], adamw[path], rtol=1e-3, atol=1e-6)}
    kernels = {path for path in muon if path.startswith("blocks_") and path.endswith("/kernel")}
    assert differs == kernels
    assert any("qkv" in path for path in kernels)
    assert "embeddings/token/embedding" not in kernels
    for path in kernels:  # orthogonal up to Newton-Schulz's tolerance, and scaled
        spectrum = np.linalg.svd(muon[path], compute_uv=False)
        assert spectrum.max() / spectrum.min() < 3, path


def test_clipping_bounds_the_gradient_and_leaves_small_ones():
    params = {"w": jnp.ones((2, 2))}
    clip = build_optimizer(TrainingConfig(clip_norm=1.0), optax.constant_schedule(1.0))
    state = clip.init(params)
    _, big = clip.update({"w": jnp.full((2, 2), 50.0)}, state, params)
    _, unit = clip.update({"w": jnp.full((2, 2), 0.5)}, state, params)  # of norm 1
    for a, b in zip(jax.tree.leaves(big), jax.tree.leaves(unit), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    _, small = clip.update({"w": jnp.full((2, 2), 0.1)}, state, params)
    assert not np.allclose(jax.tree.leaves(small)[1], jax.tree.leaves(unit)[1])
