"""Layers of one kind, or of a repeating pattern, under one loop: compiling does not grow with their number.

Parameters stay one tree a layer. They are stacked inside the step, which copies them once, and gradients come back one
tree a layer.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp


def repeats(kinds: Sequence) -> list[tuple[int, int]]:
    """Consecutive layers as (period, times), longest first: a, b, a, b, c → [(2, 2), (1, 1)]."""
    found, kinds = [], tuple(kinds)
    while kinds:
        period, times = 1, _times(kinds, 1)
        for longer in range(2, len(kinds) // 2 + 1):
            more = _times(kinds, longer)
            if more > 1 and more * longer > period * times:
                period, times = longer, more
        found.append((period, times))
        kinds = kinds[period * times :]
    return found


def apply_blocks(blocks: Sequence[nn.Module], params: dict, x_BND: jax.Array, deterministic: bool) -> jax.Array:
    """The blocks of a bound model one after another, to the numbers of calling each: (B, N, D) → (B, N, D)."""
    start = 0
    for period, times in repeats([block.mixer_name for block in blocks]):
        layers = blocks[start : start + period * times]
        x_BND = layers[0](x_BND, deterministic) if times == 1 else _scan(layers, period, params, x_BND, deterministic)
        start += len(layers)
    return x_BND


def _scan(layers, period, params, x_BND, deterministic):
    """`layers[:period]` again and again, with the parameters and dropout keys of each layer."""
    held = [(params[block.name], None if deterministic else block.dropout_keys()) for block in layers]
    turns = [tuple(held[start : start + period]) for start in range(0, len(held), period)]
    blocks = [block.clone(parent=None) for block in layers[:period]]

    def turn(x_BND, held):
        for block, (part, keys) in zip(blocks, held, strict=True):
            x_BND = block.apply({"params": part}, x_BND, deterministic, keys)
        return x_BND, None

    return jax.lax.scan(turn, x_BND, jax.tree.map(lambda *leaves: jnp.stack(leaves), *turns))[0]


def _times(kinds: tuple, period: int) -> int:
    """How often the first `period` kinds follow one another from the start."""
    times = 1
    while kinds[times * period : (times + 1) * period] == kinds[:period]:
        times += 1
    return times
