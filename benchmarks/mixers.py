"""Time and peak memory of one token mixer, forward and backward: ours, its definition, attention, PyTorch.

    python -m benchmarks.mixers
    python -m benchmarks.mixers --only "flagship.*N8192"

float32. Gradients go to parameters and input. Attention has four heads and its projections (and rotary
positions, PyTorch's fused one none). "definition" is `benchmarks.baselines`; "torch original" is
`benchmarks.peers`. Attention is left out of the forward pass over a million tokens: its products alone
would take about 10^14 operations a layer.
"""

import sys
from functools import partial

from benchmarks import command_line
from benchmarks.baselines import mixer_contender
from benchmarks.timing import Case, benchmark

STFT = ((8, 256, 256, 32), (8, 1024, 256, 64), (2, 128, 512, 512))  # B, N, D, W
FLAGSHIP = ((8, 1024), (1, 8192), (1, 32768))  # B, N
DENSE_LIMIT = 8192  # tokens to which attention's N × N matrices fit


def cases(args) -> list[Case]:
    stft, flagship, width, million = STFT, FLAGSHIP, 256, (1, 1 << 20)
    ratio, fftnet = (8, 4096, 128, (32, 256)), (64, 128, 128, 512)
    if args.quick:
        stft, flagship, width, million = ((2, 16, 8, 4),), ((2, 64),), 8, (1, 64)
        ratio, fftnet = (1, 32, 8, (4, 8)), (2, 8, 8, 8)
    return [
        *(_stft(args, *sizes) for sizes in stft),
        _windows(*ratio),
        _fftnet(args, *fftnet),
        *(_flagship(args, batch, length, width) for batch, length in flagship),
        _long(*million, 64 if not args.quick else 8),
    ]


def _stft(args, batch, length, width, window):
    stft = partial(mixer_contender, "causal_stft", batch, length, width=width, window=window)
    contenders = {
        "ours": stft,
        "definition": partial(stft, "definition"),
        "attention": partial(mixer_contender, "attention", batch, length, width=width),
    }
    if args.peers:
        contenders["torch original"] = partial(_peer, "CausalSTFT", batch, length, width, window)
        contenders["torch attention"] = partial(_peer, "FusedAttention", batch, length, width)
    return Case(f"STFT B{batch} N{length} D{width} W{window}", batch * length, contenders)


def _windows(batch, length, width, windows):
    contenders = {
        f"ours, W {window}": partial(mixer_contender, "causal_stft", batch, length, width=width, window=window)
        for window in windows
    }
    return Case(f"STFT windows B{batch} N{length} D{width}", batch * length, contenders)


def _fftnet(args, batch, length, width, hidden):
    fftnet = partial(mixer_contender, "fftnet", batch, length, width=width, filter_width=hidden)
    contenders = {
        "ours": fftnet,
        "definition": partial(fftnet, "definition"),
        "attention": partial(mixer_contender, "attention", batch, length, width=width),
    }
    if args.peers:
        contenders["torch original"] = partial(_peer, "FFTNet", batch, length, width, hidden)
        contenders["torch attention"] = partial(_peer, "FusedAttention", batch, length, width)
    return Case(f"FFTNet B{batch} N{length} D{width}", batch * length, contenders)


def _flagship(args, batch, length, width):
    flagship = partial(mixer_contender, "causal_fftnet", batch, length, width=width)
    attention = partial(mixer_contender, "attention", batch, length, width=width)
    contenders = {"ours": flagship, "definition": partial(flagship, "definition")}
    if length <= 1024:
        contenders["definition, direct sum"] = partial(flagship, "definition, direct sum")
    if length <= DENSE_LIMIT:
        contenders["attention"] = attention
    contenders["attention, chunked"] = partial(attention, "attention, chunked")
    if args.peers:
        contenders["torch attention"] = partial(_peer, "FusedAttention", batch, length, width)
    return Case(f"flagship B{batch} N{length} D{width}", batch * length, contenders)


def _long(batch, length, width):
    flagship = partial(mixer_contender, "causal_fftnet", batch, length, width=width, forward_only=True)
    contenders = {"ours": flagship, "definition": partial(flagship, "definition")}
    return Case(f"flagship forward B{batch} N{length} D{width}", batch * length, contenders)


def _peer(name, batch, length, *sizes):
    from benchmarks import peers  # needs the extra [peers]

    return peers.mixer_contender(getattr(peers, name)(*sizes), batch, length, sizes[0])


def main(argv=None) -> None:
    benchmark("mixers", cases, __doc__, argv)


if __name__ == "__main__":
    sys.exit(command_line.run(main))
