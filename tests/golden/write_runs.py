"""Writes `tests/golden/runs/`: small runs as an earlier version left them, their logits, and every mixer's parameters.

    python tests/golden/write_runs.py

What stands there was written on 2026-11-27 by commit 237a178 (jax 0.10.2, CPU). Later versions must open these runs,
and train to the same losses: it is written again only for a new kind of run, beside the old ones.
"""

import json
import random
import shutil
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import fftnet_jax
from fftnet_jax.config import MIXERS, Config, DataConfig, ModelConfig, SampleConfig, TrainingConfig
from fftnet_jax.models import build_model

FOLDER = Path(__file__).parent / "runs"
SIZES = {
    "width": 16,
    "num_layers": 2,
    "ffn_width": 24,
    "num_heads": 2,
    "window": 5,
    "filter_modes": 6,
    "filter_width": 12,
}
RUNS = {
    "flagship": {"mixer": "causal_fftnet", "activation": "gelu_tanh"},
    "hybrid": {
        "mixer": ("causal_stft", "attention"),
        "block_norm": "post",
        "positions": "learned",
        "embedding_norm": True,
    },
    "encoder": {"family": "encoder", "mixer": ("fftnet", "fourier"), "filter": "frequency", "tie_head": False},
}
TREES = {
    **{name: {"mixer": name} for name in MIXERS},
    "fftnet, filter per frequency": {"mixer": "fftnet", "filter": "frequency", "filter_points": 5},
    "original A": {
        "mixer": "fftnet", "block_norm": "both", "positions": "sinusoidal", "tie_head": False, "head_bias": True,
    },
    "original B": {
        "mixer": "causal_stft", "block_norm": "post", "positions": "learned", "embedding_norm": True,
        "final_norm": False,
    },
}  # fmt: skip


def text() -> str:
    words = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "two", "rats;", "ROMEO:", "aye,", "é", "ü.\n"]
    rng = random.Random(0)
    return " ".join(rng.choice(words) for _ in range(800))


def config_of(name: str, text_file: Path) -> Config:
    return Config(
        data=DataConfig(text_file=str(text_file), length=24, batch_size=4),
        model=ModelConfig(**SIZES | RUNS[name]),
        training=TrainingConfig(num_steps=12, eval_every=6, checkpoint_every=6, log_every=1, warmup_steps=3),
        sample=SampleConfig(max_new_tokens=12),
    )


def tree(fields: dict) -> dict:
    """Shape and, from seed 0, the sum and the first number of each parameter, by path."""
    config = ModelConfig(family="encoder", vocab_size=13, max_length=24, **SIZES | fields)
    params = jax.jit(build_model(config).init)(jax.random.key(0), jnp.zeros((1, 1), jnp.int32))["params"]
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): [
            list(leaf.shape), str(leaf.dtype), float(np.asarray(leaf, np.float64).sum()), float(leaf.ravel()[0]),
        ]
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }  # fmt: skip


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "parameters.json").write_text(json.dumps({n: tree(f) for n, f in TREES.items()}, indent=1) + "\n")
    with tempfile.TemporaryDirectory() as folder:
        text_file = Path(folder) / "text.txt"
        text_file.write_text(text(), encoding="utf-8")
        for name in RUNS:
            workdir = Path(folder) / name
            figures = fftnet_jax.train(config_of(name, text_file), workdir)
            run = fftnet_jax.load(workdir, "latest")
            ids = np.random.default_rng(1).integers(0, run.config.model.vocab_size, (3, 24), dtype=np.int32)
            logits = run.model.apply({"params": run.params}, ids)
            np.savez_compressed(workdir / "golden.npz", ids=ids, logits=logits, loss=figures["loss"])
            shutil.rmtree(workdir / "tensorboard")
            for picture in workdir.glob("*.png"):
                picture.unlink()
            shutil.make_archive(str(FOLDER / name), "zip", workdir)


if __name__ == "__main__":
    sys.exit(main())
