"""modReLU: a ReLU on the magnitude of a complex number that keeps its phase."""

import jax
import jax.numpy as jnp

EPSILON = 1e-10


def modrelu(z: jax.Array, bias: jax.Array) -> jax.Array:
    """relu(|z| + b) z / (|z| + 1e-10), elementwise; `bias` is real and broadcasts against `z`.

    Source: Arjovsky et al. 2016, "Unitary Evolution Recurrent Neural Networks", with
    the epsilon of the original FFTNet code.
    """
    magnitude = jnp.abs(z)
    gain = jax.nn.relu(magnitude + bias) / (magnitude + EPSILON)
    return gain.astype(z.dtype) * z
