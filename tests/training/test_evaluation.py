import json
import math

import numpy as np
import pytest

from fftnet_jax.parallel.mesh import build_mesh
from fftnet_jax.tasks import load_dataset
from fftnet_jax.training import evaluation, load


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_every_token_counts_once_whatever_the_batch_size(batch_size, trained):
    run = load(trained)
    source = load_dataset(run.config.data).validation
    whole = evaluation.make_evaluate(run.model, len(source), build_mesh())(run.params, source)
    parts = evaluation.make_evaluate(run.model, batch_size, build_mesh())(run.params, source)
    assert whole["count"] == parts["count"] == len(source.tokens) - 1
    assert parts["loss"] == pytest.approx(whole["loss"], rel=1e-5)
    assert parts["correct"] == whole["correct"]


def test_loss_is_the_one_computed_window_by_window(trained):
    run = load(trained)
    dataset = load_dataset(run.config.data)
    tokens, losses, hits = dataset.test.tokens, [], []
    for start in range(0, len(tokens) - 1, 16):
        row = np.asarray(tokens[start : start + 17])
        logits = np.asarray(run.model.apply({"params": run.params}, row[None, :-1]), np.float64)[0]
        losses += list(np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(row) - 1), row[1:]])
        hits += list(logits.argmax(-1) == row[1:])
    figures = json.loads((trained / "test_metrics.json").read_text())
    assert figures["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert figures["accuracy"] == pytest.approx(np.mean(hits))
    assert figures["perplexity"] == pytest.approx(math.exp(figures["loss"]))
    assert figures["bits_per_character"] == pytest.approx(figures["loss"] / math.log(2))
    assert figures["split"] == "test"
    assert figures["tokens"] == len(tokens) - 1
