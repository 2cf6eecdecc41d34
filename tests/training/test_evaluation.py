import json
import math

import numpy as np
import pytest

from fftnet_jax.config import DataConfig
from fftnet_jax.data import load_dataset
from fftnet_jax.parallel.mesh import build_mesh
from fftnet_jax.training import evaluation, load


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_every_token_counts_once_whatever_the_batch_size(batch_size, trained):
    run = load(trained)
    source = load_dataset(run.config.data).validation
    whole = evaluation.make_evaluate(run.model, len(source), build_mesh())(run.params, source)
    parts = evaluation.make_evaluate(run.model, batch_size, build_mesh())(run.params, source)
    assert whole["tokens"] == parts["tokens"] == len(source.tokens) - 1
    assert parts["loss"] == pytest.approx(whole["loss"], rel=1e-5)
    assert parts["accuracy"] == pytest.approx(whole["accuracy"], abs=1e-9)


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


def test_bits_per_character_of_bytes_count_characters(text_file):
    dataset = load_dataset(DataConfig(text_file=str(text_file), tokenizer="byte", length=16))
    tokens, characters = len(dataset.test.tokens) - 1, dataset.characters["test"]
    assert characters < tokens, "the text has characters of several bytes"
    figures = evaluation.test_figures({"loss": 2.0, "accuracy": 0.5, "tokens": tokens}, characters)
    assert figures["bits_per_character"] == pytest.approx(2.0 * tokens / math.log(2) / characters)


def test_figures_without_characters_or_beyond_floats():
    figures = evaluation.test_figures({"loss": 1e4, "accuracy": 0.0, "tokens": 3}, None)
    assert figures["bits_per_character"] is None
    assert figures["perplexity"] == math.inf
