"""Loss by position of a trained run over its whole validation split, against what the text's own statistics allow.

    python -m studies.positions --workdir runs/shakespeare

The first token of a window is predicted from one token, so a decoder that sees no future can't do better there than
the conditional entropy of the pairs in the validation text (a figure below it would be a leak, but for the little
that training text tells about the validation text's pairs).
"""

import sys

import jax
import numpy as np
import optax

from benchmarks import command_line
from fftnet_jax import load
from studies.validation import opened


def pair_entropy(first: np.ndarray, second: np.ndarray, vocab: int) -> float:
    """Entropy of the second token given the first, nats, from counts."""
    counts = np.zeros((vocab, vocab))
    np.add.at(counts, (first, second), 1)
    given = counts.sum(axis=1, keepdims=True)
    p = counts[counts > 0] / np.broadcast_to(given, counts.shape)[counts > 0]
    return float(-(counts[counts > 0] * np.log(p)).sum() / counts.sum())


def main(argv=None) -> None:
    run, batches = opened(argv, __doc__, load)

    @jax.jit
    def sums(batch):
        logits_BNV = run.model.apply({"params": run.params}, batch["inputs"])
        losses_BN = optax.softmax_cross_entropy_with_integer_labels(logits_BNV, batch["targets"])
        return (losses_BN * batch["weights"]).sum(axis=0), batch["weights"].sum(axis=0)

    parts = [jax.device_get(sums(batch)) for batch in batches]
    loss_N, count_N = (np.sum([part[i] for part in parts], axis=0, dtype=np.float64) for i in (0, 1))
    mean_N = loss_N / count_N
    for position in sorted({0, 1, 2, 3, 7, 15, 31, len(mean_N) - 1} & set(range(len(mean_N)))):
        print(f"position {position:>4}: {mean_N[position]:.3f} nats per token ({int(count_N[position])} windows)")
    real = np.concatenate([batch["weights"].ravel() for batch in batches]) > 0
    tokens = (np.concatenate([batch[name].ravel() for batch in batches])[real] for name in ("inputs", "targets"))
    entropy = pair_entropy(*tokens, run.model.config.vocab_size)
    print(f"entropy of a token given the one before, validation text: {entropy:.3f}")


if __name__ == "__main__":
    sys.exit(command_line.run(main))
