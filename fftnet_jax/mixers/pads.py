"""Left pads: `pads_B` places before each row's start, in a batch of rows of different lengths.

A mixer's `prefill` takes them with an empty cache only; None stands for no pads.
"""

import jax
import jax.numpy as jnp


def zero_pads(x_BND: jax.Array, pads_B: jax.Array | None) -> jax.Array:
    """The input with 0 at the pads, as a mixer sees what lies before the start."""
    if pads_B is None:
        return x_BND
    real_BN = jnp.arange(x_BND.shape[1])[None] >= pads_B[:, None]
    return jnp.where(real_BN[:, :, None], x_BND, jnp.zeros((), x_BND.dtype))
