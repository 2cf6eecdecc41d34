import jax
import numpy as np
import pytest

from fftnet_jax.config import ModelConfig
from fftnet_jax.models import build_model
from fftnet_jax.runs.opening import fresh_params
from fftnet_jax.tasks import sums
from fftnet_jax.tasks.sums import model_sums, token_sums


def test_sums_are_over_tokens_of_weight_one():
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(3, 5, 7)).astype(np.float32), rng.integers(0, 7, (3, 5))
    weights = rng.integers(0, 2, (3, 5)).astype(np.float32)
    loss = correct = 0
    for b, n in np.argwhere(weights):
        loss += np.log(np.exp(logits[b, n].astype(np.float64)).sum()) - logits[b, n, targets[b, n]]
        correct += logits[b, n].argmax() == targets[b, n]
    found = token_sums(logits, targets, weights)
    np.testing.assert_allclose(found["loss"], loss, rtol=1e-5)
    assert found["correct"] == correct
    assert found["count"] == weights.sum()


HEADS = [
    {"tie_head": True},
    {"tie_head": True, "head_bias": True, "final_norm": False},
    {"tie_head": False},
    {"tie_head": False, "head_bias": True, "final_norm": False, "family": "encoder"},
]


@pytest.mark.parametrize("head", HEADS)
def test_a_large_vocabulary_changes_nothing(head, monkeypatch):
    sizes = {"vocab_size": 61, "width": 8, "num_layers": 1, "ffn_width": 8, "mixer": "causal_stft", "window": 3}
    model = build_model(ModelConfig(**sizes, dropout=0.3, **head))
    params = jax.tree.map(lambda p: p + 0.1, fresh_params(model, 0))  # biases are zero at first
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 61, (2, 4, 6), np.int32)
    batch = {"inputs": ids[0], "targets": ids[1], "weights": rng.integers(0, 2, (4, 6)).astype(np.float32)}

    def gradients():
        def loss_of(params):
            total = model_sums(model, params, batch, deterministic=False, rngs={"dropout": jax.random.key(1)})
            return total["loss"], total

        return jax.jit(jax.value_and_grad(loss_of, has_aux=True))(params), model_sums(model, params, batch)

    whole = gradients()
    monkeypatch.setattr(sums, "LARGE_VOCABULARY", 61)
    monkeypatch.setattr(sums, "token_sums", None)  # must not be called any more
    for a, b in zip(jax.tree.leaves(gradients()), jax.tree.leaves(whole), strict=True):
        assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max()
