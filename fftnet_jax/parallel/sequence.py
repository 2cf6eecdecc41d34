"""Sequences that go on from device to device, as the parts of a model meet them.

Inside `split_over(axis)`, which the sharded train step opens, an array (B, N, D) holds this device's N tokens of
sequences that are split over the devices of a mesh axis. What works token by token needs nothing; mixers change to
channels and back, or ask for the tokens before. Outside of it every function here leaves its argument as it is.

Source of the change between tokens and channels: DeepSpeed-Ulysses (Jacobs et al. 2023, arXiv 2309.14509), section 3.
"""

import contextlib
from contextvars import ContextVar

import jax
import jax.numpy as jnp

_AXIS: ContextVar[str | None] = ContextVar("sequence axis", default=None)


@contextlib.contextmanager
def split_over(axis: str | None):
    """Context of a computation on sequences split over the mesh axis `axis`; None for whole ones."""
    token = _AXIS.set(axis)
    try:
        yield
    finally:
        _AXIS.reset(token)


def whole_length(length: int) -> int:
    """Tokens of a whole sequence of which each device holds `length`."""
    return length * _devices()


def first_position(length: int) -> jax.Array | int:
    """Where this device's `length` tokens begin in their sequence."""
    return jax.lax.axis_index(_AXIS.get()) * length if _AXIS.get() else 0


# Both exchange along an axis of its own, in front of what stays together: from one axis to another it would reorder
# (B, N, D) number by number on a TPU (v5e, jax 0.10.2; `python -m benchmarks.scale --chip v5e`).


def to_channels(x: jax.Array) -> jax.Array:
    """(B, N / devices, D, …) → (B, N, D / devices, …): whole sequences of some of the channels, or heads."""
    if not _AXIS.get():
        return x
    (rows, length, width, *rest), parts = x.shape, _devices()
    # The barrier keeps what gives x apart from its reordering, in which it would be slow to compute there.
    x = jax.lax.optimization_barrier(x).reshape(rows, length, parts, width // parts, *rest).swapaxes(1, 2)
    return jax.lax.all_to_all(x, _AXIS.get(), 1, 1).reshape(rows, length * parts, width // parts, *rest)


def to_tokens(x: jax.Array) -> jax.Array:
    """The way back of `to_channels`."""
    if not _AXIS.get():
        return x
    (rows, length, width, *rest), parts = x.shape, _devices()
    x = jax.lax.all_to_all(x.reshape(rows, parts, length // parts, width, *rest), _AXIS.get(), 1, 1)
    return x.swapaxes(1, 2).reshape(rows, length // parts, width * parts, *rest)


def own_channels(x: jax.Array) -> jax.Array:
    """The channels, last axis, that `to_channels` leaves with this device."""
    if not _AXIS.get():
        return x
    size = x.shape[-1] // _devices()
    return jax.lax.dynamic_slice_in_dim(x, jax.lax.axis_index(_AXIS.get()) * size, size, axis=x.ndim - 1)


def mean(x_BND: jax.Array) -> jax.Array:
    """Mean over the tokens of whole sequences: (B, D)."""
    mean_BD = x_BND.mean(axis=1)
    return jax.lax.pmean(mean_BD, _AXIS.get()) if _AXIS.get() else mean_BD


def before(x_BND: jax.Array, count: int) -> jax.Array | None:
    """The `count` tokens (B, count, D) before this device's, zeros before the start; None for whole sequences."""
    devices, length = _devices(), x_BND.shape[1]
    if not _AXIS.get() or count == 0:
        return None
    parts, missing, hop = [], count, 1
    while missing and hop < devices:
        size = min(missing, length)
        to_right = [(index, index + hop) for index in range(devices - hop)]  # those without a sender get zeros
        parts.append(jax.lax.ppermute(x_BND[:, length - size :], _AXIS.get(), to_right))
        missing, hop = missing - size, hop + 1
    zeros = jnp.zeros((x_BND.shape[0], missing, *x_BND.shape[2:]), x_BND.dtype)
    return jnp.concatenate([zeros, *reversed(parts)], axis=1)


def _devices() -> int:
    return jax.lax.axis_size(_AXIS.get()) if _AXIS.get() else 1
