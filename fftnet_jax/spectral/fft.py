"""Real FFTs over the last axis that keep batches sharded.

XLA's partitioner gathers the whole array to every device before an FFT. These say that rows are independent,
so each device transforms its own.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def rfft(x: jax.Array, size: int) -> jax.Array:
    """(…, n) float32 → (…, size // 2 + 1) complex64, zero-padded or cut to `size`."""
    return _by_rows(lambda rows: jnp.fft.rfft(rows, n=size), x)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def irfft(X: jax.Array, size: int) -> jax.Array:
    """(…, size // 2 + 1) complex64 → (…, size) float32."""
    return _by_rows(lambda rows: jnp.fft.irfft(rows, n=size), X)


# Gradients written out, for JAX would transpose a real FFT by way of a complex one of twice the cost.


def _rfft_forward(x, size):
    return rfft(x, size), x.shape[-1]


def _rfft_backward(size, length, G):
    dx = irfft(G.conj() * _along_last(size / _copies(size), G), size)[..., :length]
    return (jnp.pad(dx, [(0, 0)] * (dx.ndim - 1) + [(0, length - dx.shape[-1])]),)


def _irfft_forward(X, size):
    return irfft(X, size), None


def _irfft_backward(size, _, g):
    G = rfft(g, size)
    return (G.conj() * _along_last(_copies(size) / size, G),)


rfft.defvjp(_rfft_forward, _rfft_backward)
irfft.defvjp(_irfft_forward, _irfft_backward)


def _copies(size):
    """How many bins of the whole DFT each of the half stands for."""
    bins = np.arange(size // 2 + 1)
    return np.where((bins == 0) | (2 * bins == size), 1, 2)


def _along_last(values, G):
    return jnp.asarray(values.reshape((1,) * (G.ndim - 1) + (-1,)), G.dtype)


def _by_rows(transform, x):
    @custom_vmap
    def apply(rows):
        return _partitioned(transform)(rows)

    @apply.def_vmap
    def _(axis_size, in_batched, rows):
        merged = apply(rows.reshape(-1, rows.shape[-1]))
        return merged.reshape(axis_size, -1, merged.shape[-1]), True

    return apply(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)


def _partitioned(transform):
    def place(mesh, shapes, _):
        sharding = shapes[0].sharding
        rows = sharding.spec[0] if len(sharding.spec) else None
        sharding = NamedSharding(mesh, PartitionSpec(rows, None))
        return mesh, transform, sharding, (sharding,)

    apply = custom_partitioning(transform)
    apply.def_partition(partition=place, sharding_rule="r n -> r f", need_replication_factors=("n", "f"))
    return apply
