"""Text, problems, windows of them, and batches. NumPy only; nothing here touches a device."""

from fftnet_jax.data.batches import eval_batches, train_batches
from fftnet_jax.data.corpora import load_text
from fftnet_jax.data.problem_rows import EncodedProblems, PackedProblems, ProblemRows, encode_problems
from fftnet_jax.data.problems import Problem, read_problems, split_problems
from fftnet_jax.data.splits import SPLITS, Dataset
from fftnet_jax.data.windows import EvalWindows, Source, Subset, TokenWindows

__all__ = [
    "SPLITS",
    "Dataset",
    "EncodedProblems",
    "EvalWindows",
    "PackedProblems",
    "Problem",
    "ProblemRows",
    "Source",
    "Subset",
    "TokenWindows",
    "encode_problems",
    "eval_batches",
    "load_text",
    "read_problems",
    "split_problems",
    "train_batches",
]
