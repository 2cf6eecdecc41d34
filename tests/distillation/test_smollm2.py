"""SmolLM2-135M-Instruct from its GGUF file against what transformers on PyTorch made of the same file."""

from pathlib import Path

import jax
import numpy as np
import pytest

from fftnet_jax.distillation import load_teacher
from fftnet_jax.errors import ConfigError
from fftnet_jax.interop.smollm2 import smollm2_path

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "teacher" / "smollm2.npz")
TEXTS = [int(name.removeprefix("text_")) for name in GOLDEN.files if name.startswith("text_")]


@pytest.fixture(scope="module")
def teacher():
    """(tokenizer, ids (1, N) → logits (1, N, V)), from the user's cache or fetched into it."""
    try:
        path = smollm2_path()
    except ConfigError as error:
        pytest.skip(str(error))
    model, params, tokenizer = load_teacher(path)
    apply = jax.jit(lambda params, ids_BN: model.apply({"params": params}, ids_BN))
    return tokenizer, lambda ids_BN: apply(params, ids_BN)


@pytest.mark.parametrize("index", TEXTS)
def test_token_ids(index, teacher):
    assert teacher[0].encode(str(GOLDEN[f"text_{index}"])) == GOLDEN[f"ids_{index}"].tolist()


def test_logits(teacher):
    assert len(TEXTS) == 5 and all(60 <= len(GOLDEN[f"ids_{index}"]) <= 250 for index in TEXTS)
    length = max(len(GOLDEN[f"ids_{index}"]) for index in TEXTS)
    for index in TEXTS:
        ids_N = GOLDEN[f"ids_{index}"]
        padded_BN = np.pad(ids_N, (0, length - len(ids_N)))[None]  # one program; what follows changes nothing
        logits_NV = np.asarray(teacher[1](padded_BN))[0, : len(ids_N)].astype(np.float64)
        assert (logits_NV.argmax(axis=1) == GOLDEN[f"top_{index}"]).all()
        highest_N = logits_NV.max(axis=1)
        lse_N = highest_N + np.log(np.exp(logits_NV - highest_N[:, None]).sum(axis=1))
        np.testing.assert_allclose(lse_N, GOLDEN[f"lse_{index}"], rtol=0, atol=2e-3)
        second_N = np.partition(logits_NV, -2, axis=1)[:, -2]
        np.testing.assert_allclose(highest_N - second_N, GOLDEN[f"gap_{index}"], rtol=0, atol=2e-3)
