"""The least time that a program can take on a chip, and what is taken for kernels that no compiler gives a time of."""

import jax

from benchmarks.chips import Chip

SHARE = 0.4  # of the roof, that a kernel of Pallas is taken to reach


def floor(flops: float, moved: float, chip: Chip) -> float:
    """Seconds: the larger of FLOPs over the bfloat16 peak and bytes over the memory's bandwidth."""
    return max(flops / chip.flops, moved / chip.bandwidth)


def kernel_seconds(pallas: tuple[tuple[float, float], ...], stated: float, chip: Chip) -> float:
    """Of kernels of Pallas, each at `SHARE` of its own roof.

    Args:
      pallas: (FLOPs, bytes) of each.
      stated: FLOPs of all of them, where it is known that they do more than they say.
    """
    each = sum(floor(flops, moved, chip) for flops, moved in pallas)
    return max(each, stated / chip.flops if pallas else 0.0) / SHARE


def network_seconds(kind: str, sent: float, group: int, chip: Chip) -> float:
    """Of the bytes that a device sends in collectives of one kind.

    Where parameters and gradients travel, all links are busy. Sequences are exchanged by `group` devices along one axis
    of a torus, its two links, over group / 4 hops on average; neighbours have one link to each other.
    """
    if kind == "all-to-all" and chip.axes:
        sent *= chip.axes * max(1.0, group / 4)
    if kind == "collective-permute" and chip.axes:
        sent *= 2 * chip.axes
    return sent / chip.link


def dense_flops(params: dict, tied_head: bool = False) -> float:
    """FLOPs a token of the products with dense kernels, and with the token embedding where the head reuses it.

    What transforms, windows and long convolutions take depends on their form, so it is no part of a floor.
    """

    def counts(path) -> bool:
        names = [str(getattr(key, "key", key)) for key in path]
        is_head = tied_head and names[-2:] == ["token", "embedding"]
        return is_head or (names[-1] == "kernel" and "projection" not in names)

    leaves = jax.tree_util.tree_leaves_with_path(params)
    return 2.0 * sum(leaf.size for path, leaf in leaves if counts(path) and leaf.ndim == 2)


def attention_flops(length: int, width: int) -> float:
    """FLOPs a token of causal attention's two products, over half of the sequence on average."""
    return 2.0 * length * width
