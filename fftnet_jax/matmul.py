"""Matrix products with gradients that suit the CPU.

JAX writes the gradient of a product as the transpose of another one, and XLA's CPU then either reads the result
across its rows or takes a slower kernel.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def matmul(x: jax.Array, weight_DO: jax.Array, plain: str = "input") -> jax.Array:
    """(…, D) and (D, O) → (…, O), in the dtype of x.

    Args:
      plain: which of "input" and "gradient" (of the output) lies in memory as it is, so that the weight's gradient
        transposes that one: XLA's CPU computes the other anew, element by element across its rows, to transpose it.
    """
    return x @ weight_DO.astype(x.dtype)


def _forward(x, weight_DO, plain):
    return matmul(x, weight_DO, plain), (x, weight_DO)


def _backward(plain, residuals, dy):
    x, weight_DO = residuals
    dx = dy @ weight_DO.astype(dy.dtype).T
    x_RD, dy_RO = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
    if plain == "input":
        dweight_DO = jnp.matmul(_apart(x_RD.T), dy_RO, preferred_element_type=jnp.float32)
    else:
        dweight_DO = _apart(jnp.matmul(_apart(dy_RO.T), x_RD, preferred_element_type=jnp.float32)).T
    return dx, dweight_DO.astype(weight_DO.dtype)


matmul.defvjp(_forward, _backward)


@jax.custom_vjp
def matmul_by_bin(X_FRBCE: jax.Array, H_FEO: jax.Array) -> jax.Array:
    """A product for each bin F of a spectrum: (F, R, B, C, E) and (F, E, O) → (F, R, B, C, O)."""
    return _by_bin(X_FRBCE, H_FEO, (4,), (1,))


def _by_bin(a, b, axes_a, axes_b):
    # Not einsum, which orders the axes that are summed over in its own way and has an operand copied for that.
    return jax.lax.dot_general(a, b, ((axes_a, axes_b), ((0,), (0,))))


def _by_bin_forward(X_FRBCE, H_FEO):
    return matmul_by_bin(X_FRBCE, H_FEO), (X_FRBCE, H_FEO)


def _by_bin_backward(residuals, dY_FRBCO):
    X_FRBCE, H_FEO = residuals
    return _by_bin(dY_FRBCO, H_FEO, (4,), (2,)), _by_bin(X_FRBCE, dY_FRBCO, (1, 2, 3), (1, 2, 3))


matmul_by_bin.defvjp(_by_bin_forward, _by_bin_backward)


def map_first_axis(matrix: np.ndarray, x: jax.Array) -> jax.Array:
    """A constant linear map (F, T) of the first axis: (T, …) → (F, …)."""

    @jax.custom_vjp
    def apply(x):
        return jnp.tensordot(jnp.asarray(matrix, x.dtype), x, axes=1)

    apply.defvjp(lambda x: (apply(x), None), lambda _, dy: (map_first_axis(matrix.T, dy),))
    return apply(x)


def _apart(transposed):
    """Keeps a transpose and a product apart, for XLA's CPU has a faster kernel for the product alone."""
    return jax.lax.optimization_barrier(transposed) if jax.default_backend() == "cpu" else transposed
