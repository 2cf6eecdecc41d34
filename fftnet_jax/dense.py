"""A dense layer whose gradient suits the CPU."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from fftnet_jax.matmul import matmul


class Dense(nn.Module):
    """`nn.Dense`, the same parameters and numbers, with the gradient of `matmul`, in reverse mode only.

    Attributes:
      features: outputs.
    """

    features: int
    use_bias: bool = True
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (x.shape[-1], self.features))
        y = matmul(x.astype(self.dtype), kernel)
        if not self.use_bias:
            return y
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return y + bias.astype(self.dtype).reshape((1,) * (y.ndim - 1) + (-1,))
