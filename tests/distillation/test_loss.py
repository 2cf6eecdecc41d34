"""The student's loss against a float64 definition, and what it must not depend on."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fftnet_jax.config import load_config
from fftnet_jax.distillation import Distillation, build_guide, fold, kl_full, kl_top_k
from fftnet_jax.models import build_model
from fftnet_jax.ops.cross_entropy import linear_sums
from fftnet_jax.parallel.mesh import batch_sharding, build_mesh, replicated
from fftnet_jax.runs.folder import read_metrics
from fftnet_jax.runs.opening import fresh_params, resolve_sizes
from fftnet_jax.tasks import load_dataset
from fftnet_jax.training import train
from fftnet_jax.training.step import make_gradients

full, top_k = jax.jit(kl_full), jax.jit(kl_top_k)
sizes = st.sampled_from([(1, 2), (9, 3), (4, 17), (7, 101)])  # few shapes: each is compiled
temperatures = st.sampled_from([0.5, 1.0, 2.0, 7.0])


def logps64(logits, temperature=1.0):
    scaled = np.asarray(logits, np.float64) / temperature
    scaled = scaled - scaled.max(axis=-1, keepdims=True)
    return scaled - np.log(np.exp(scaled).sum(axis=-1, keepdims=True))


def kl64(student, teacher, temperature):
    q, p = logps64(student, temperature), logps64(teacher, temperature)
    return (np.exp(p) * (p - q)).sum(axis=-1)


def pair(rows, vocab, seed=0, scale=3.0):
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.normal(scale=scale, size=(rows, vocab)), jnp.float32) for _ in range(2)]


def top_of(teacher, k, temperature):
    """What shards keep, in float64: ids, log-probabilities and the tail."""
    logps = logps64(teacher, temperature)
    ids = np.argsort(-logps, axis=1, kind="stable")[:, :k]
    kept = np.take_along_axis(logps, ids, axis=1)
    rest = np.exp(logps).sum(axis=1) - np.exp(kept).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        tail = np.log(np.maximum(rest, 0)) if k < teacher.shape[1] else np.full(len(teacher), -np.inf)
    return jnp.asarray(ids, jnp.int32), jnp.asarray(kept, jnp.float32), jnp.asarray(tail, jnp.float32)


@given(sizes, temperatures)
def test_full_divergence_is_the_definition(size, temperature):
    student, teacher = pair(*size)
    np.testing.assert_allclose(
        full(student, teacher, temperature), kl64(student, teacher, temperature), rtol=1e-5, atol=1e-6
    )


@given(sizes, temperatures, st.sampled_from([1, 2, 101]))
def test_top_k_divergence_is_that_of_the_lumped_distributions(size, temperature, k):
    k = min(k, size[1])
    student, teacher = pair(*size, seed=1)
    ids, kept, tail = top_of(teacher, k, temperature)
    q = np.take_along_axis(logps64(student, temperature), np.asarray(ids), axis=1)
    p = np.take_along_axis(logps64(teacher, temperature), np.asarray(ids), axis=1)
    wanted = (np.exp(p) * (p - q)).sum(axis=1)
    if k < size[1]:
        p_tail, q_tail = 1 - np.exp(p).sum(axis=1), 1 - np.exp(q).sum(axis=1)
        wanted = wanted + p_tail * np.log(p_tail / q_tail)
    np.testing.assert_allclose(top_k(student, ids, kept, tail, temperature), wanted, rtol=1e-4, atol=1e-5)


@given(temperatures)
def test_top_k_grows_to_the_full_divergence(temperature):
    student, teacher = pair(5, 60, seed=2)
    most = np.asarray(full(student, teacher, temperature))
    by_k = [np.asarray(top_k(student, *top_of(teacher, k, temperature), temperature)) for k in (1, 16, 59, 60)]
    for less, more in zip(by_k, [*by_k[1:], most], strict=True):
        assert (less <= more + 1e-5).all()
    np.testing.assert_allclose(by_k[-1], most, rtol=1e-5, atol=1e-6)


@jax.jit
def slopes(student, teacher, ids, kept, tail, temperature):
    """Values and gradients of both kinds of divergence."""
    kinds = (
        lambda z: kl_full(z, teacher, temperature).sum(),
        lambda z: kl_top_k(z, ids, kept, tail, temperature).sum(),
    )
    return [jax.value_and_grad(kind)(student) for kind in kinds]


@given(sizes, temperatures, st.sampled_from([1, 2, 101]))
def test_a_student_like_its_teacher_has_nothing_to_learn(size, temperature, k):
    teacher = pair(*size, seed=3)[0]
    for value, grad in slopes(teacher, teacher, *top_of(teacher, min(k, size[1]), temperature), temperature):
        assert abs(value) < 2e-5
        assert np.abs(grad).max() < 2e-6


def test_no_tail_and_impossible_tokens_give_finite_gradients():
    student, teacher = pair(4, 8, seed=4)
    teacher = teacher.at[:, 5].set(-jnp.inf)
    ids, kept, _ = top_of(teacher, 3, 2.0)
    none = jnp.full((4,), -jnp.inf)
    certain = jnp.zeros((4, 8)).at[:, 1].set(200.0)  # all mass on one token, as float32 sees it
    for args in ((student, teacher, ids, kept, none, 2.0), (certain, certain, *top_of(certain, 3, 1.0), 1.0)):
        assert all(np.isfinite(grad).all() for _, grad in slopes(*args))


@given(st.sampled_from([1, 6]), st.sampled_from([2, 40]), st.randoms())
def test_folded_teacher_keeps_its_mass(rows, vocab, random):
    logits = pair(rows, vocab)[0]
    kept = np.array(sorted(random.sample(range(vocab), random.randint(1, vocab))))
    folded = np.exp(logps64(fold(logits, jnp.asarray(kept))))
    p = np.exp(logps64(logits))
    np.testing.assert_allclose(folded[:, :-1], p[:, kept], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(folded[:, -1], np.delete(p, kept, axis=1).sum(axis=1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["full", "features", "top_k", "kept"])
@pytest.mark.parametrize("chunk_rows", [3, 100])
def test_chunked_loss_is_the_definition(kind, chunk_rows):
    """Values and gradients of alpha · CE + (1 - alpha) · T² · KL over masked rows, against float64 differences."""
    rng = np.random.default_rng(0)
    batch, length, width, vocab, alpha, temperature = 2, 5, 6, 23, 0.3, 2.0
    x, weight = rng.normal(size=(batch, length, width)), rng.normal(size=(vocab, width))
    targets, weights = rng.integers(0, vocab, (batch, length)), rng.integers(0, 2, (batch, length)).astype(np.float32)
    features, head = rng.normal(size=(batch, length, 4)), rng.normal(size=(vocab + 7, 4))
    kept = np.sort(rng.permutation(vocab + 7)[: vocab - 1])
    teacher = features @ head.T
    p = np.exp(logps64(teacher))
    other = np.log(np.delete(p, kept, axis=-1).sum(axis=-1))
    teacher = (
        np.concatenate([np.log(p[..., kept]), other[..., None]], axis=-1) if kind == "kept" else teacher[..., :vocab]
    )
    rows, whole = {"targets": jnp.asarray(targets, jnp.int32)}, {}
    if kind == "full":
        rows["teacher_logits"] = jnp.asarray(teacher, jnp.float32)
    elif kind == "top_k":
        parts = top_of(teacher.reshape(-1, vocab), 4, temperature)
        for name, part in zip(("teacher_ids", "teacher_logps", "teacher_tail"), parts, strict=True):
            rows[name] = part.reshape(batch, length, *part.shape[1:])
    else:
        rows["teacher_features"] = jnp.asarray(features, jnp.float32)
        whole = {"head": jnp.asarray(head if kind == "kept" else head[:vocab], jnp.float32)}
        whole |= {"kept": jnp.asarray(kept, jnp.int32)} if kind == "kept" else {}

    def definition(x, weight):
        logits = x @ weight.T
        ce = -np.take_along_axis(logps64(logits), targets[..., None], axis=-1)[..., 0]
        kl = kl64(logits, teacher, temperature)
        if kind == "top_k":
            q, p = (np.exp(logps64(z, temperature)) for z in (logits, teacher))
            ids = np.asarray(rows["teacher_ids"])
            q, p = (np.take_along_axis(a, ids, axis=-1) for a in (q, p))
            q, p = (np.concatenate([a, 1 - a.sum(-1, keepdims=True)], axis=-1) for a in (q, p))
            kl = (p * np.log(p / q)).sum(axis=-1)
        return (weights * (alpha * ce + (1 - alpha) * temperature**2 * kl)).sum()

    def ours(x, weight):
        sums = linear_sums(
            Distillation(alpha, temperature), x, weight, None, rows, whole, jnp.asarray(weights), 0, chunk_rows
        )
        return sums["loss"]

    value, grads = jax.jit(jax.value_and_grad(ours, argnums=(0, 1)))(jnp.float32(x), jnp.float32(weight))
    np.testing.assert_allclose(value, definition(x, weight), rtol=1e-5)
    for index, (array, grad) in enumerate(zip((x, weight), grads, strict=True)):
        direction = rng.normal(size=array.shape)
        step = 1e-5 * direction
        moved = [[x + s * step, weight] if index == 0 else [x, weight + s * step] for s in (1, -1)]
        slope = (definition(*moved[0]) - definition(*moved[1])) / 2e-5
        np.testing.assert_allclose((np.asarray(grad, np.float64) * direction).sum(), slope, rtol=2e-4)


@pytest.fixture(scope="module")
def started(student):
    """The student's model, parameters and guide, a batch, and `gradients(batch, accumulation)`."""
    config = load_config(str(student))
    dataset = load_dataset(config.data)
    guide = build_guide(config, dataset)
    model = build_model(resolve_sizes(config, dataset.vocab_size).model)
    params = fresh_params(model, 0)
    functions = {count: jax.jit(make_gradients(model, 0, count, guide)) for count in (1, 2, 8)}

    def gradients(batch, accumulation=1):
        grads, sums = functions[accumulation](params, batch, 0, guide.arrays)
        return grads, {name: value / sums["count"] for name, value in sums.items()}

    batch = dataset.train.batch(np.arange(8))
    return SimpleNamespace(model=model, params=params, guide=guide, batch=batch, gradients=gradients)


def assert_same(ours, wanted, tolerance=2e-5):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance * max(np.abs(b).max(), 1e-30))


def test_padding_changes_nothing(started):
    more = {name: np.pad(array, ((0, 3), (0, 9))) for name, array in started.batch.items()}
    assert_same(started.gradients(more)[0], started.gradients(started.batch)[0])


@pytest.mark.parametrize("accumulation", [2, 8])
def test_accumulation_changes_nothing(accumulation, started):
    """Micro-batches hold different numbers of real tokens; the mean is over all of them."""
    weights = started.batch["weights"].copy()
    weights[:5, 3:] = 0
    batch = started.batch | {"weights": weights}
    ours, ours_sums = started.gradients(batch, accumulation)
    wanted, wanted_sums = started.gradients(batch)
    assert_same(ours, wanted)
    np.testing.assert_allclose(ours_sums["loss"], wanted_sums["loss"], rtol=1e-5)


@pytest.mark.as_shipped
def test_alpha_one_is_plain_training_to_the_bit(student, tmp_path):
    for name, flags in (("plain", ["distillation.teacher="]), ("alpha", ["distillation.alpha=1.0"])):
        train(load_config(str(student), flags), tmp_path / name)
    plain, alpha = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("plain", "alpha"))
    for a, b in zip(plain, alpha, strict=True):
        assert {k: v for k, v in a.items() if k != "tokens_per_second"} == {
            k: v for k, v in b.items() if k != "tokens_per_second"
        }


def test_objective_is_static():
    assert hash(Distillation(0.5, 2.0)) == hash(dataclasses.replace(Distillation(0.1, 2.0), alpha=0.5))


def test_neither_models_logits_exist_whole():
    rng = np.random.default_rng(0)
    batch, length, width, vocab = 8, 32, 8, 4001
    x, weight = rng.normal(size=(batch, length, width)), rng.normal(size=(vocab, width))
    x, weight = x.astype(np.float32), weight.astype(np.float32)
    rows = {"targets": rng.integers(0, vocab, (batch, length), np.int32), "teacher_features": x}
    weights = np.ones((batch, length), np.float32)
    objective = Distillation(0.5, 2.0)

    def loss(x, weight):
        return linear_sums(objective, x, weight, None, rows, {"head": 2 * weight}, weights, 0, 8)["loss"]

    step = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(x, weight).compile()
    assert step.memory_analysis().temp_size_in_bytes < 4 * batch * length * vocab / 2


def test_devices_share_rows_and_gather_nothing(started, devices):
    devices(8)
    model, params, guide, mesh = started.model, started.params, started.guide, build_mesh()
    batch = guide.dataset.train.batch(np.arange(16))
    alone = jax.jit(make_gradients(model, 0, 1, guide))(params, batch, 0, guide.arrays)
    placed = replicated(params, mesh), jax.device_put(batch, batch_sharding(mesh)), 0, replicated(guide.arrays, mesh)
    for accumulation in (1, 2):
        step = jax.jit(make_gradients(model, 0, accumulation, guide, mesh)).lower(*placed).compile()
        for a, b in zip(jax.tree.leaves(step(*placed)), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)
        hlo = step.as_text()
        for name in ("all-gather", "all-to-all", "collective-permute"):
            assert f" {name}(" not in hlo, name
