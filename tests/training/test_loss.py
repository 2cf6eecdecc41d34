import numpy as np

from fftnet_jax.training.loss import token_sums


def test_sums_are_over_tokens_of_weight_one():
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(3, 5, 7)).astype(np.float32), rng.integers(0, 7, (3, 5))
    weights = rng.integers(0, 2, (3, 5)).astype(np.float32)
    loss = correct = 0
    for b, n in np.argwhere(weights):
        loss += np.log(np.exp(logits[b, n].astype(np.float64)).sum()) - logits[b, n, targets[b, n]]
        correct += logits[b, n].argmax() == targets[b, n]
    sums = token_sums(logits, targets, weights)
    np.testing.assert_allclose(sums["loss"], loss, rtol=1e-5)
    assert sums["correct"] == correct
    assert sums["count"] == weights.sum()
