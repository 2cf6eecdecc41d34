"""Causal windows: each token's last W tokens."""

import jax
import jax.numpy as jnp


def causal_windows(x_BND: jax.Array, window: int) -> jax.Array:
    """The W tokens that end at each position, zeros before the start, oldest first.

    Shapes: (B, N, D) → (B, N, W, D). Window t holds x[t-W+1 .. t].
    This is the definition: it materialises W copies of the input.
    """
    padded_BMD = jnp.pad(x_BND, ((0, 0), (window - 1, 0), (0, 0)))
    return valid_windows(padded_BMD, window)


def valid_windows(x_BMD: jax.Array, window: int) -> jax.Array:
    """All windows that lie inside the input: (B, M, D) → (B, M-W+1, W, D)."""
    starts_N = jnp.arange(x_BMD.shape[1] - window + 1)

    def slice_at(start):
        return jax.lax.dynamic_slice_in_dim(x_BMD, start, window, axis=1)

    return jax.vmap(slice_at, out_axes=1)(starts_N)
