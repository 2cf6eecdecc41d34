"""A kernel in place of a function that JAX can differentiate."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fftnet_jax.ops.linear import linear


def kernel(plain: Callable, forward: Callable, backward: Callable) -> Callable:
    """`plain(*arrays)`, computed by `forward`, and its gradient by `backward`; other derivatives are those of `plain`.

    `jax.custom_vjp` would refuse them: forward mode, and what is made of it, such as a Hessian.

    Args:
      forward: `(*arrays)` → the value, and a tree of what `backward` needs besides the arrays.
      backward: `(arrays, that tree, gradient of the value)` → gradients of the arrays.
    """

    @jax.custom_jvp
    def both(arrays):
        return forward(*arrays)

    @both.defjvp
    def _(primals, tangents):
        (arrays,), (tangent,) = primals, tangents
        value, kept = both(arrays)
        residuals = arrays, jax.lax.stop_gradient(kept)
        moved = linear(derivative, lambda residuals, dy: gradient(*residuals, dy), residuals, tangent)
        return (value, kept), (moved, jax.tree.map(jnp.zeros_like, kept))

    def derivative(residuals, tangent):
        return jax.jvp(plain, residuals[0], tangent)[1]

    @jax.custom_jvp
    def gradient(arrays, kept, dy):
        return backward(arrays, kept, dy)

    @gradient.defjvp
    def _(primals, tangents):
        def plain_gradient(arrays, kept, dy):
            return jax.vjp(plain, *arrays)[1](dy)

        return gradient(*primals), jax.jvp(plain_gradient, primals, tangents)[1]

    return lambda *arrays: both(arrays)[0]
