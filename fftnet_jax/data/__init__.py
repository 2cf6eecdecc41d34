"""Text and synthetic tasks: corpora, tokenizers, windows, batches. NumPy only; nothing here touches a device."""

from fftnet_jax.data.batches import eval_batches, train_batches
from fftnet_jax.data.corpora import load_text
from fftnet_jax.data.datasets import Dataset, load_dataset
from fftnet_jax.data.gsm8k import PackedProblems, Problem, ProblemRows, read_problems, split_problems
from fftnet_jax.data.windows import EvalWindows, MaskedWindows, Patterns, Recall, TokenWindows

__all__ = [
    "Dataset",
    "EvalWindows",
    "MaskedWindows",
    "PackedProblems",
    "Patterns",
    "Problem",
    "ProblemRows",
    "Recall",
    "TokenWindows",
    "eval_batches",
    "load_dataset",
    "load_text",
    "read_problems",
    "split_problems",
    "train_batches",
]
