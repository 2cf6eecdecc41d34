"""Dense maps whose parameters can be prepared for decoding: cast once to what a step reads, and not at every token."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from fftnet_jax import ops


class Kernel(nn.Module):
    """A dense map's weight (inputs, outputs), as `nn.Dense` keeps it.

    Called, it is the weight as an array; `product` and `products` read the prepared one as it is.
    """

    inputs: int
    outputs: int
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    def setup(self):
        self.kernel = self.param("kernel", self.kernel_init, (self.inputs, self.outputs))

    def __call__(self) -> jax.Array:
        weight_DO = self.prepared()
        return weight_DO.dequantised() if isinstance(weight_DO, ops.Int8) else weight_DO

    def prepared(self) -> jax.Array | ops.Int8:
        """What `prepare` left, or else the parameter."""
        return constant(self, "kernel", lambda: self.kernel)

    def prepare(self, dtype: jnp.dtype, weights: str | None = None) -> None:
        """Leaves the weight in the collection "constants": see `ops.prepared_weight`."""
        keep(self, "kernel", self.kernel, ops.prepared_weight(self.kernel, dtype, weights))


class Dense(Kernel):
    """`nn.Dense` whose parameters can be prepared: (…, inputs) → (…, outputs)."""

    use_bias: bool = True
    dtype: jnp.dtype = jnp.float32
    precision: str = "default"
    implementation: str = "auto"

    def setup(self):
        super().setup()
        if self.use_bias:
            self.bias = self.param("bias", nn.initializers.zeros, (self.outputs,))

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.astype(self.dtype)
        y = ops.weight_product(x, self.prepared(), self.precision, implementation=self.implementation)
        if not self.use_bias:
            return y
        bias = constant(self, "bias", lambda: self.bias.astype(self.dtype))
        return y + jnp.expand_dims(bias, range(y.ndim - 1))

    def prepare(self, weights: str | None = None) -> None:
        super().prepare(self.dtype, weights)
        if self.use_bias:
            keep(self, "bias", self.bias, self.bias.astype(self.dtype))


def constant(module: nn.Module, name: str, compute: Callable):
    """What `keep` left for a module, or else `compute()`."""
    return module.get_variable("constants", name) if module.has_variable("constants", name) else compute()


def keep(module: nn.Module, name: str, parameter: jax.Array, prepared) -> None:
    """Leaves what was made of a parameter in "constants", but not the parameter itself, which would be there twice."""
    if prepared is not parameter:
        module.put_variable("constants", name, prepared)
