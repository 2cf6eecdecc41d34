"""Parameters of blocks that are split over devices, and gathered inside each block.

Inside `gathered_by(function)`, which the sharded train step opens, an encoder's blocks have but a part of each of their
parameters, and get the whole ones when they run. Where a block is rematerialised, that is once more in the backward
pass: the whole parameters of one block at a time is all that exists.
"""

import contextlib
from collections.abc import Callable
from contextvars import ContextVar

import flax.linen as nn

_GATHER: ContextVar[Callable | None] = ContextVar("gather of a block's parameters", default=None)


@contextlib.contextmanager
def gathered_by(gather: Callable[[str, dict], dict] | None):
    """Context in which `gather(block, its parts)` gives a block's whole parameters; None for whole ones."""
    token = _GATHER.set(gather)
    try:
        yield
    finally:
        _GATHER.reset(token)


def gathering(block: type[nn.Module], name: str) -> type[nn.Module]:
    """`block` as it is, or gathering the parameters of the block `name` when it runs."""
    gather = _GATHER.get()
    if gather is None:
        return block
    return nn.map_variables(block, "params", trans_in_fn=lambda found: {"params": gather(name, found["params"])})
