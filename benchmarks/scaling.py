"""Time of one mixer against the length of the sequence, 256 to 1,048,576 tokens, as far as each goes.

    python -m benchmarks.scaling

One sequence, width 64, float32, forward and backward. Dense attention stops where its N × N matrices no
longer fit; chunked and PyTorch's fused attention stop where one pass takes a minute.
"""

import sys
from functools import partial

from benchmarks import command_line
from benchmarks.baselines import mixer_contender
from benchmarks.timing import Case, benchmark

LENGTHS = tuple(4**power for power in range(4, 11))
WIDTH = 64
DENSE_LIMIT, CHUNKED_LIMIT, FUSED_LIMIT = 4096, 16_384, 65_536  # tokens


def cases(args) -> list[Case]:
    lengths, width = ((16, 64), 8) if args.quick else (LENGTHS, WIDTH)
    return [_case(args, length, width) for length in lengths]


def _case(args, length, width):
    flagship = partial(mixer_contender, "causal_fftnet", 1, length, width=width)
    attention = partial(mixer_contender, "attention", 1, length, width=width)
    contenders = {
        "ours, flagship": flagship,
        "definition of the flagship": partial(flagship, "definition"),
        "ours, STFT W 32": partial(mixer_contender, "causal_stft", 1, length, width=width, window=32),
    }
    if length <= DENSE_LIMIT:
        contenders["attention"] = attention
    if length <= CHUNKED_LIMIT:
        contenders["attention, chunked"] = partial(attention, "attention, chunked")
    if args.peers and length <= FUSED_LIMIT:
        contenders["torch attention"] = partial(_fused, length, width)
    return Case(f"{length} tokens", length, contenders, length=length)


def _fused(length, width):
    from benchmarks import peers  # needs the extra [peers]

    return peers.mixer_contender(peers.FusedAttention(width), 1, length, width)


def main(argv=None) -> None:
    benchmark("scaling", cases, __doc__, argv)


if __name__ == "__main__":
    sys.exit(command_line.run(main))
