"""Weights of 8 bits, for decoding: half of bfloat16's bytes, and a step is the time that reading the weights takes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fftnet_jax.errors import ConfigError
from fftnet_jax.ops.dense import matmul, matmuls

WEIGHTS = ("int8",)
LARGEST = 127


class Int8(NamedTuple):
    """A weight (D, O) as whole numbers from -127 to 127 and a float32 scale for each output, (1, O)."""

    values_DO: jax.Array
    scale_1O: jax.Array

    def dequantised(self) -> jax.Array:
        return self.values_DO.astype(jnp.float32) * self.scale_1O


def quantised(weight_DO: jax.Array) -> Int8:
    """The nearest weight of 8 bits: off by at most half a scale, which is the output's largest weight / 127."""
    weight_DO = weight_DO.astype(jnp.float32)
    scale_1O = jnp.abs(weight_DO).max(axis=0, keepdims=True) / LARGEST
    scale_1O = jnp.where(scale_1O > 0, scale_1O, 1.0)
    return Int8(jnp.round(weight_DO / scale_1O).astype(jnp.int8), scale_1O)


def prepared_weight(weight_DO: jax.Array, dtype: jnp.dtype, weights: str | None = None) -> jax.Array | Int8:
    """A weight as a decoding step reads it: in the dtype that the model computes in, or "int8".

    Raises:
      ConfigError: another name.
    """
    if weights is None:
        return weight_DO.astype(dtype)
    if weights not in WEIGHTS:
        raise ConfigError(f"weights must be one of {', '.join(WEIGHTS)}, or None, got {weights!r}")
    return quantised(weight_DO)


def weight_product(x: jax.Array, weight_DO: jax.Array | Int8, precision=None, *, implementation="auto") -> jax.Array:
    """`matmul`, also with a weight of 8 bits: its whole numbers go into the product, the scale comes after it."""
    if not isinstance(weight_DO, Int8):
        return matmul(x, weight_DO, precision, implementation=implementation)
    y = matmul(x, weight_DO.values_DO, precision, implementation=implementation).astype(jnp.float32)
    return (y * jnp.expand_dims(weight_DO.scale_1O, range(y.ndim - 2))).astype(x.dtype)


def weight_products(
    x: jax.Array, weight_DO: jax.Array | Int8, count: int, precision=None, *, implementation="auto"
) -> list[jax.Array]:
    """`matmuls`, also with a weight of 8 bits."""
    if not isinstance(weight_DO, Int8):
        return matmuls(x, weight_DO, count, precision, implementation=implementation)
    return jnp.split(weight_product(x, weight_DO, precision, implementation=implementation), count, axis=-1)
