"""A linear function whose transpose is written out.

A gradient is the transpose of a derivative, and JAX writes it by a rule for each product, slice and sum, which a
compiler may handle badly. `jax.custom_vjp` would replace it at the price of forward mode. `linear` replaces the
transpose alone: forward and reverse mode, `vmap`, `scan` and derivatives of any order go on working.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir


def linear(function: Callable, transpose: Callable, residuals, x):
    """`function(residuals, x)`, linear in x, with `transpose(residuals, dy)` for the gradient of x.

    Both are pure and close over no traced array. The derivative for `residuals` is JAX's own.

    Args:
      residuals, x: trees of arrays.
    """
    residual_leaves, residual_tree = jax.tree.flatten(residuals)
    leaves, tree = jax.tree.flatten(x)
    count = len(residual_leaves)  # a number, so that the functions below hold no tracer
    out_tree = jax.tree.structure(jax.eval_shape(function, residuals, x))

    def unflat(function, x_tree, *flat):
        parts = flat[:count], flat[count:]
        return tuple(jax.tree.leaves(function(residual_tree.unflatten(parts[0]), x_tree.unflatten(parts[1]))))

    found = linear_p.bind(
        *residual_leaves,
        *leaves,
        function=lambda *flat: unflat(function, tree, *flat),
        transpose=lambda *flat: unflat(transpose, out_tree, *flat),
        count=count,
    )
    return out_tree.unflatten(found)


def after(x: jax.Array, other: jax.Array) -> jax.Array:
    """x, which a compiler can't compute before `other`, a few finite numbers that broadcast against x; it does as it
    likes otherwise, and then holds what both need at once."""
    return x + jnp.minimum(jnp.abs(other), 0.0).reshape((1,) * (x.ndim - other.ndim) + other.shape).astype(x.dtype)


linear_p = Primitive("linear")
linear_p.multiple_results = True
linear_p.def_impl(lambda *flat, function, transpose, count: function(*flat))
linear_p.def_abstract_eval(lambda *avals, function, transpose, count: jax.make_jaxpr(function)(*avals).out_avals)
mlir.register_lowering(linear_p, mlir.lower_fun(lambda *flat, function, transpose, count: function(*flat), True))


def _jvp(primals, tangents, *, function, transpose, count):
    out = linear_p.bind(*primals, function=function, transpose=transpose, count=count)
    parts = []
    if any(type(t) is not ad.Zero for t in tangents[count:]):
        x_dot = map(ad.instantiate_zeros, tangents[count:])
        parts.append(linear_p.bind(*primals[:count], *x_dot, function=function, transpose=transpose, count=count))
    moving = [i for i in range(count) if type(tangents[i]) is not ad.Zero]
    if moving:

        def of_residuals(*moved):
            flat = list(primals)
            for i, value in zip(moving, moved, strict=True):
                flat[i] = value
            return function(*flat)

        parts.append(jax.jvp(of_residuals, [primals[i] for i in moving], [tangents[i] for i in moving])[1])
    if not parts:
        return out, [ad.Zero.from_primal_value(y) for y in out]
    return out, parts[0] if len(parts) == 1 else [a + b for a, b in zip(*parts, strict=True)]


def _transpose(cotangents, *flat, function, transpose, count):
    dy = map(ad.instantiate_zeros, cotangents)
    dx = linear_p.bind(*flat[:count], *dy, function=transpose, transpose=function, count=count)
    return [None] * count + list(dx)


def _batch(flat, axes, *, function, transpose, count):
    size = next(x.shape[axis] for x, axis in zip(flat, axes, strict=True) if axis is not None)
    x = [
        jnp.broadcast_to(x, (size, *x.shape)) if axis is None else jnp.moveaxis(x, axis, 0)
        for x, axis in zip(flat[count:], axes[count:], strict=True)
    ]

    def mapped(function):
        return lambda *flat: jax.vmap(function, (*axes[:count], *[0] * (len(flat) - count)))(*flat)

    found = linear_p.bind(*flat[:count], *x, function=mapped(function), transpose=mapped(transpose), count=count)
    return found, [0] * len(found)


ad.primitive_jvps[linear_p] = _jvp
ad.primitive_transposes[linear_p] = _transpose
batching.primitive_batchers[linear_p] = _batch
