import math

import pytest

from fftnet_jax.config import DataConfig
from fftnet_jax.tasks import load_dataset
from fftnet_jax.tasks.tokens import TokenTask


def test_bits_per_character_of_bytes_count_characters(text_file):
    dataset = load_dataset(DataConfig(text_file=str(text_file), tokenizer="byte", length=16))
    tokens, characters = len(dataset.test.tokens) - 1, dataset.characters["test"]
    assert characters < tokens, "the text has characters of several bytes"
    figures = TokenTask().figures({"loss": 2.0 * tokens, "correct": 0.0, "count": float(tokens)}, characters)
    assert figures["bits_per_character"] == pytest.approx(2.0 * tokens / math.log(2) / characters)


def test_figures_without_characters_or_beyond_floats():
    figures = TokenTask().figures({"loss": 3e4, "correct": 0.0, "count": 3.0}, None)
    assert figures["bits_per_character"] is None
    assert figures["perplexity"] == math.inf
