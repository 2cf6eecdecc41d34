"""Weights of 8 bits, for decoding: half of bfloat16's bytes, and a step is the time that reading the weights takes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fftnet_jax.errors import ConfigError
from fftnet_jax.ops.dense import matmul, matmuls

WEIGHTS = ("int8",)
LARGEST = 127


class Int8(NamedTuple):
    """A weight (D, O) as whole numbers from -127 to 127 and a float32 scale for each output, (O,)."""

    values_DO: jax.Array
    scale_O: jax.Array

    def dequantised(self) -> jax.Array:
        return self.values_DO.astype(jnp.float32) * self.scale_O[None]


def quantised(weight_DO: jax.Array) -> Int8:
    """The nearest weight of 8 bits: off by at most half a scale, which is the output's largest weight / 127."""
    weight_DO = weight_DO.astype(jnp.float32)
    scale_O = jnp.abs(weight_DO).max(axis=0) / LARGEST
    scale_O = jnp.where(scale_O > 0, scale_O, 1.0)
    return Int8(jnp.round(weight_DO / scale_O[None]).astype(jnp.int8), scale_O)


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
    values, scales = _apart(weight_DO, 1)
    return _scaled(matmul(x, values, precision, implementation=implementation), scales[0])


def weight_products(
    x: jax.Array, weight_DO: jax.Array | Int8, count: int, precision=None, *, implementation="auto"
) -> list[jax.Array]:
    """`matmuls`, also with a weight of 8 bits."""
    values, scales = _apart(weight_DO, count)
    products = matmuls(x, values, count, precision, implementation=implementation)
    return [_scaled(y, scale_O) for y, scale_O in zip(products, scales, strict=True)]


def _apart(weight_DO, count):
    if isinstance(weight_DO, Int8):
        return weight_DO.values_DO, jnp.split(weight_DO.scale_O, count)
    return weight_DO, [None] * count


def _scaled(y, scale_O):
    if scale_O is None:
        return y
    return (y.astype(jnp.float32) * jnp.expand_dims(scale_O, range(y.ndim - 1))).astype(y.dtype)
