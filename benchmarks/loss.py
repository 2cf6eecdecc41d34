"""Time and peak memory of a large vocabulary's loss: ours, a few rows at a time, against full logits.

    python -m benchmarks.loss
    python -m benchmarks.loss --only "100,000|rows"

float32; random features, head and targets. Forward and backward: the summed loss and its gradients to features and
head. Peak memory is what two calls add to a process that holds the inputs. "full logits" is the product, its bias and
`tasks.sums.token_sums`, differentiated by JAX.
"""

import dataclasses
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
from matplotlib.figure import Figure

from benchmarks import command_line
from benchmarks.timing import COLORS, Case, Contender, benchmark, compiled
from fftnet_jax.ops.cross_entropy import linear_token_sums
from fftnet_jax.tasks.sums import token_sums

VOCABULARIES = (1024, 4096, 16_384, 65_536)
CHUNKS = (64, 128, 256, 512, 1024)


def full_token_sums(x_BND, weight, bias_V, targets_BN, weights_BN, vocab_axis):
    """The definition, on logits written out."""
    logits_BNV = jnp.tensordot(x_BND, weight, ((2,), (1 - vocab_axis,)))
    return token_sums(logits_BNV if bias_V is None else logits_BNV + bias_V, targets_BN, weights_BN)


@dataclasses.dataclass(frozen=True)
class Problem:
    """Sizes, and what kind of head: a token table (V, D), or a dense kernel (D, V)."""

    rows: int
    width: int
    vocab: int
    tied: bool = False
    bias: bool = False
    share: float = 1.0  # of tokens that count

    def inputs(self) -> tuple:
        """(x, weight, bias), (targets, weights)."""
        keys = jax.random.split(jax.random.key(0), 5)
        batch = (max(1, self.rows // 128), min(self.rows, 128))
        x_BND = jax.random.normal(keys[0], (*batch, self.width))
        shape = (self.vocab, self.width) if self.tied else (self.width, self.vocab)
        weight = jax.random.normal(keys[1], shape) * self.width**-0.5
        bias_V = jax.random.normal(keys[2], (self.vocab,)) if self.bias else None
        targets_BN = jax.random.randint(keys[3], batch, 0, self.vocab)
        weights_BN = (jax.random.uniform(keys[4], batch) < self.share).astype(jnp.float32)
        return (x_BND, weight, bias_V), (targets_BN, weights_BN)

    def contender(self, sums_of, differentiate: bool = True) -> Contender:
        head, tokens = self.inputs()

        def loss(head, tokens):
            sums = sums_of(*head, *tokens, vocab_axis=0 if self.tied else 1)
            return sums["loss"] if differentiate else sums

        contender = compiled(jax.value_and_grad(loss) if differentiate else loss, head, tokens)
        return dataclasses.replace(contender, held=0)

    def case(self, name: str, differentiate: bool = True, length: int | None = None) -> Case:
        ways = {"ours": linear_token_sums, "full logits": full_token_sums}
        contenders = {way: partial(self.contender, sums_of, differentiate) for way, sums_of in ways.items()}
        return Case(f"{name}: {self}", self.rows, contenders, reference="full logits", length=length)

    def __str__(self) -> str:
        kind = ("token table" if self.tied else "dense kernel") + (" and bias" if self.bias else "")
        counted = f", {self.share:.0%} count" if self.share < 1 else ""
        return f"{self.rows:,} rows × {self.width} × {self.vocab:,}, {kind}{counted}"


def cases(args) -> list[Case]:
    rows, width, vocabularies, scale, chunks = 2048, 256, VOCABULARIES, 1, CHUNKS
    if args.quick:
        rows, width, vocabularies, scale, chunks = 128, 8, (64, 128), 500, (64, 128)
    many, words, gpt2 = 4 * rows, 100_000 // scale, 50_257 // scale
    half = Problem(rows, width, gpt2, tied=True)
    by_chunk = {
        f"{count} rows": partial(half.contender, partial(linear_token_sums, chunk_rows=count)) for count in chunks
    }
    return [
        *(Problem(rows, width, vocab, tied=True).case("vocabulary", length=vocab) for vocab in vocabularies),
        Problem(many, width, words).case("large"),
        Problem(many, width // 2, words + 277 // scale, bias=True).case("with bias"),
        Problem(many, width // 2, words + 277 // scale, bias=True, share=0.15).case("masked tokens"),
        half.case("evaluation", differentiate=False),
        Case(f"rows at a time: {half}", rows, by_chunk),
    ]


def picture(path: Path, title: str, tables: list[dict]) -> None:
    """Time and peak memory against the vocabulary."""
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    panels = (("median", "milliseconds", 1e3), ("peak_bytes", "peak memory, MiB", 2**-20))
    for axes, (key, label, unit) in zip(figure.subplots(1, 2), panels, strict=True):
        for way, color, marker in (("ours", COLORS["ours"], "o"), ("full logits", COLORS["torch"], "s")):
            points = [
                (table["length"], row[key] * unit)
                for table in tables
                for row in table["rows"]
                if table["length"] and row["name"] == way and row[key]
            ]
            axes.plot(*zip(*sorted(points), strict=True) if points else ((), ()), marker=marker, color=color, label=way)
        axes.set(xscale="log", yscale="log", xlabel="tokens in the vocabulary", ylabel=label)
        axes.grid(alpha=0.3, which="both")
        axes.legend()
    figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main(argv=None) -> None:
    benchmark("loss", cases, __doc__, argv, picture=picture)


if __name__ == "__main__":
    sys.exit(command_line.run(main))
