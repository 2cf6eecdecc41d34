"""The causal STFT mixer's linear map: windows, their 2-D spectrum made real, a dense map."""

import jax
import jax.numpy as jnp

from fftnet_jax.ops.precision import EXACT
from fftnet_jax.ops.select import operation
from fftnet_jax.ops.spectrum import check_spectrum, window_spectrum
from fftnet_jax.ops.stft_plan import FORMS, STFTPlan
from fftnet_jax.ops.windows import causal_windows, valid_windows


def _check(x_BND, weight_WDO, spectrum="real", norm="none", past_BPD=None, plan="auto"):
    check_spectrum(spectrum, norm)
    (batch, length, width), (window, inputs, _) = x_BND.shape, weight_WDO.shape
    if min(batch, length, width, window) < 1:
        raise ValueError(
            f"batch, length, width and window must be at least 1, got x {x_BND.shape}, weight {weight_WDO.shape}"
        )
    if width != inputs:
        raise ValueError(f"x {x_BND.shape} and weight {weight_WDO.shape} (W, D, O) must have the same D")
    if past_BPD is not None and past_BPD.shape != (batch, window - 1, width):
        raise ValueError(f"past must be (B, W - 1, D) = {(batch, window - 1, width)}, got {past_BPD.shape}")
    form = plan if isinstance(plan, str) else plan.form
    if form not in ("auto", *FORMS):
        raise ValueError(f"form must be 'auto' or one of {', '.join(FORMS)}, got {form!r}")


@operation(check=_check)
def stft_convolution(
    x_BND: jax.Array,
    weight_WDO: jax.Array,
    spectrum: str = "real",
    norm: str = "none",
    past_BPD: jax.Array | None = None,
    plan: STFTPlan | str = "auto",
) -> jax.Array:
    """y_t = sum over k, j of S(w_t)[k, j] P[k, j]: (B, N, D) → (B, N, O), float32.

    w_t are the tokens x[t-W+1 .. t], zeros before the start, oldest first; S is `window_spectrum`.

    Args:
      weight_WDO: P, the weight of each window position (oldest first) and channel for each output.
      spectrum, norm: see `window_spectrum`.
      past_BPD: the W - 1 tokens before x; None stands for zeros.
      plan: how a faster implementation computes it, from `plan_stft`, or the name of a form; see `stft_plan`.

    Raises:
      ValueError: shapes that don't fit, an unknown spectrum or norm, or a form or plan that can't compute this; the
        message says what can.
    """
    x_BND, window = x_BND.astype(jnp.float32), len(weight_WDO)
    if past_BPD is None:
        w_BNWD = causal_windows(x_BND, window)
    else:
        w_BNWD = valid_windows(jnp.concatenate([past_BPD.astype(jnp.float32), x_BND], axis=1), window)
    spectrum_BNWD = window_spectrum(w_BNWD, spectrum, norm)
    return jnp.einsum("bnwd,wdo->bno", spectrum_BNWD, weight_WDO.astype(jnp.float32), precision=EXACT)
