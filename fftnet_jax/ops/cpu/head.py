"""XLA runs a product of one row and a matrix on one CPU core, and several of them on several."""

import os

import jax
import jax.numpy as jnp

from fftnet_jax.ops.head import head_parts


@head_parts.implements("cpu")
def parts(weight_DV: jax.Array) -> list[jax.Array]:
    return jnp.array_split(weight_DV, min(8, os.cpu_count()), axis=1)
