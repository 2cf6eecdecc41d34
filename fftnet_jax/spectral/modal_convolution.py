"""Causal convolution with the taps of damped oscillations, in O(N) and matrix products.

Within blocks of T tokens the filter is a product of short DFTs; from block to block the state of the modes is carried
(see `modes`). Tokens come first, (T, K blocks, B, C), so that both are products with small matrices from the left.

The gradients of the parts are written out: what JAX derives sums columns and transposes products, which XLA's CPU does
slowly. Complex numbers are real arrays with the imaginary parts below the real ones.
"""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from fftnet_jax.matmul import map_first_axis
from fftnet_jax.spectral import bins
from fftnet_jax.spectral.modes import angles, damped_waves

BLOCK, GROUP = 128, 32  # tokens of a block and channels at a time: about what a core's cache holds
TERMS = 8  # of a sum over tokens that are added in one pass


def modal_convolution(
    u_BND: jax.Array,
    decay_M: jax.Array,
    frequency_M: jax.Array,
    mix_MD: jax.Array,
    skip_D: jax.Array | None = None,
    block: int = BLOCK,
    group: int = GROUP,
) -> jax.Array:
    """`causal_convolution` with the taps of the modes, `damped_waves` @ mix.

    A few channels at a time, recomputed for the gradient: the memory they touch stays in the caches.

    Args:
      decay_M, frequency_M: see `damped_waves`.
      skip_D: added to the tap at lag 0.
      block, group: the most tokens of a block, and channels at a time.

    Returns: (B, N, D) float32.

    Raises:
      ValueError: no tokens or channels, another number of channels in the mix, or a block or group below 1.
    """
    batch, length, width = u_BND.shape
    if min(*u_BND.shape, block, group) < 1:
        raise ValueError(f"need B, N, D, block and group >= 1, got input {u_BND.shape}, block {block}, group {group}")
    if mix_MD.shape[1] != width:
        raise ValueError(f"input and mix must have the same D, got {u_BND.shape} and {mix_MD.shape}")
    blocks, groups = -(-length // block), -(-width // group)
    size, group = -(-length // blocks), -(-width // groups)
    lag_T = jnp.arange(size)
    taps_TD = damped_waves(decay_M, frequency_M, lag_T, lag_T) @ mix_MD
    taps_TD = taps_TD if skip_D is None else taps_TD.at[0].add(skip_D)
    carry = _carry(decay_M, frequency_M, size, blocks) if blocks > 1 else None
    dft_FT, inverse_TF = _dft(size)

    @jax.checkpoint
    def convolve(part):
        u_TKBC, taps_TC, mix_MC = part
        Y_FKBC = _times(map_first_axis(dft_FT, u_TKBC), map_first_axis(dft_FT, taps_TC))
        y_TKBC = map_first_axis(inverse_TF, Y_FKBC)
        return y_TKBC + carry(u_TKBC, mix_MC) if carry else y_TKBC

    idle = groups * group - width
    u_BND = jnp.pad(u_BND.astype(jnp.float32), ((0, 0), (0, blocks * size - length), (0, idle)))
    u_GTKBC = u_BND.reshape(batch, blocks, size, groups, group).transpose(3, 2, 1, 0, 4)
    taps_GTC, mix_GMC = (
        jnp.pad(z, ((0, 0), (0, idle))).reshape(-1, groups, group).swapaxes(0, 1) for z in (taps_TD, mix_MD)
    )
    y_GTKBC = jax.lax.map(convolve, (u_GTKBC, taps_GTC, mix_GMC))
    return y_GTKBC.transpose(3, 2, 1, 0, 4).reshape(batch, blocks * size, -1)[:, :length, :width]


def _carry(decay_M, frequency_M, size, blocks):
    """A function of (T, K, B, C) inputs and their channels' mix: what each block's output owes to the blocks before."""
    lag_T = jnp.arange(size)
    into_MT = damped_waves(decay_M, frequency_M, lag_T[::-1], lag_T).T
    out_of_TM = damped_waves(decay_M, frequency_M, lag_T + 1, lag_T)
    # Each phase afresh from its position: a block's are turned to the first token's, and back.
    turn_MK = angles(size * jnp.arange(blocks, dtype=jnp.float32), frequency_M).T
    lost_M = jnp.expm1(-size * decay_M)  # exp would round a slow mode's decay away
    lost_M = jnp.concatenate([lost_M, lost_M])

    def carried(u_TKBC, mix_MC):
        added_MKBC = _turned(_product(into_MT, u_TKBC), turn_MK)
        state_KMBC = _states_before(added_MKBC.swapaxes(0, 1), lost_M)
        state_MKBC = _turned(state_KMBC.swapaxes(0, 1), -turn_MK)
        return _product(out_of_TM, _times(state_MKBC, mix_MC))

    return carried


@lru_cache(maxsize=16)
def _dft(size: int) -> tuple[np.ndarray, np.ndarray]:
    """The DFT of 2T points, T of them zeros, and the way back to the first T, as matrices (2 (T + 1), T), (T, …)."""
    pair = (bins.row_matrix(size, bins.REAL_IMAGINARY, weighted=weighted) for weighted in (False, True))
    forward, back = (matrix.reshape(-1, 2, size).swapaxes(0, 1).reshape(-1, size) for matrix in pair)
    return forward, back.T


def _complex_product(x, w, conjugate=False):
    (a, b), (c, d) = jnp.split(x, 2), jnp.split(w, 2)
    return jnp.concatenate([a * c + b * d, b * c - a * d] if conjugate else [a * c - b * d, a * d + b * c])


@jax.custom_vjp
def _times(x_FKBC, w_FC):
    """Complex numbers times those of their row and channel."""
    return _complex_product(x_FKBC, w_FC[:, None, None])


def _times_forward(x_FKBC, w_FC):
    return _times(x_FKBC, w_FC), (x_FKBC, w_FC)


def _times_backward(residuals, dy_FKBC):
    x_FKBC, w_FC = residuals
    blocks = x_FKBC.shape[1]
    size = -(-blocks // TERMS)
    # Over blocks, not rows of the batch: those may lie on several devices.
    terms = [slice(start, start + size) for start in range(0, blocks - size + 1, size)]
    dw_FKBC = sum(_complex_product(dy_FKBC[:, term], x_FKBC[:, term], conjugate=True) for term in terms)
    dw_FC = dw_FKBC.sum((1, 2))
    if blocks % size:
        last = slice(blocks - blocks % size, blocks)
        dw_FC += _complex_product(dy_FKBC[:, last], x_FKBC[:, last], conjugate=True).sum((1, 2))
    return _complex_product(dy_FKBC, w_FC[:, None, None], conjugate=True), dw_FC


_times.defvjp(_times_forward, _times_backward)


@jax.custom_vjp
def _turned(x_MKBC, angle_MK):
    """Complex numbers turned by the angle of their mode and block."""
    (real, imaginary), angle_MK11 = jnp.split(x_MKBC, 2), angle_MK[:, :, None, None]
    cos, sin = jnp.cos(angle_MK11), jnp.sin(angle_MK11)
    return jnp.concatenate([real * cos - imaginary * sin, imaginary * cos + real * sin])


def _turned_forward(x_MKBC, angle_MK):
    return _turned(x_MKBC, angle_MK), (x_MKBC, angle_MK)


def _turned_backward(residuals, dy_MKBC):
    x_MKBC, angle_MK = residuals
    dx_MKBC = _turned(dy_MKBC, -angle_MK)
    (real, imaginary), (dreal, dimaginary) = jnp.split(x_MKBC, 2), jnp.split(dx_MKBC, 2)
    return dx_MKBC, (dimaginary * real - dreal * imaginary).sum((2, 3))


_turned.defvjp(_turned_forward, _turned_backward)


@jax.custom_vjp
def _product(matrix_RT, x_TKBC):
    """A matrix times the first axis."""
    return jnp.tensordot(matrix_RT, x_TKBC, axes=1)


def _product_forward(matrix_RT, x_TKBC):
    return _product(matrix_RT, x_TKBC), (matrix_RT, x_TKBC)


def _product_backward(residuals, dy_RKBC):
    matrix_RT, x_TKBC = residuals
    return jnp.tensordot(dy_RKBC, x_TKBC, axes=((1, 2, 3), (1, 2, 3))), _product(matrix_RT.T, dy_RKBC)


_product.defvjp(_product_forward, _product_backward)


def _states_before(added_KMBC, lost_M):
    """The state ahead of each block: each block loses a part of it (factors below 0) and adds its own."""
    lost_M11 = lost_M[:, None, None]

    def advance(state_MBC, added_MBC):
        return state_MBC + lost_M11 * state_MBC + added_MBC, state_MBC

    return jax.lax.scan(advance, jnp.zeros_like(added_KMBC[0]), added_KMBC)[1]
