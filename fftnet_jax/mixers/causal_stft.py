"""Causal STFT mixer: a 2-D FFT of each token's last W tokens, made real, and a dense map."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from fftnet_jax import ops
from fftnet_jax.mixers.base import Mixer, option, register, zero_pads
from fftnet_jax.mixers.dense import constant
from fftnet_jax.ops.precision import EXACT
from fftnet_jax.ops.stft_plan import FORMS
from fftnet_jax.parallel import sequence


@register("causal_stft")
class CausalSTFT(Mixer):
    """Windows → FFT2 → real spectrum → dense: (B, N, D) → (B, N, D).

    The original's definition: y_t = P · flatten(Re FFT2(x[t-W+1 .. t])) + bias, with the window's
    tokens (oldest first) before its channels in the flattened features.

    Attributes:
      width: channels D.
      window: tokens per window W.
      spectrum: "real" as in the original, or "hartley" (see `ops.window_spectrum`).
      norm: "none" as in the original, or "ortho".
      form: how it is computed, "auto" or one of `ops.stft_plan.FORMS`; all give the same numbers.
    """

    width: int
    window: int = option(32, "causal_stft: tokens per window", minimum=1)
    spectrum: str = option("real", "causal_stft: real part or real - imaginary", choices=("real", "hartley"))
    norm: str = option("none", "causal_stft: FFT scaling", choices=("none", "ortho"), declared_as="spectrum_norm")
    form: str = option(
        "auto",
        "causal_stft: how it is computed, to the same numbers",
        choices=("auto", *FORMS),
        declared_as="stft_form",
    )
    dtype: jnp.dtype = jnp.float32
    implementation: str = "auto"

    causal = True

    def setup(self):
        if self.window < 1:
            raise ValueError(f"window must be at least 1, got {self.window}")
        self.projection = _Projection(self.window, self.width)

    def __call__(self, x_BND: jax.Array) -> jax.Array:
        self.check_input(x_BND)
        return self._mix(x_BND, sequence.before(x_BND, self.window - 1))

    @nn.nowrap
    def init_cache(self, batch: int, length: int) -> dict:
        """The last W-1 inputs, zeros before the start; `length` (tokens to come) does not matter."""
        return {"inputs": jnp.zeros((batch, self.window - 1, self.width), self.dtype)}

    def prepare(self, weights: str | None = None) -> None:
        """Leaves the kernel for `step` in the collection "constants", for it depends on parameters only."""
        kernel_OWD = self._kernel_OWD()
        if weights is not None:
            kernel = ops.prepared_weight(kernel_OWD.reshape(self.width, -1).T, self.dtype, weights)
        else:
            kernel = kernel_OWD.astype(self.dtype)
        self.put_variable("constants", "kernel", kernel)

    def prefill(self, x_BND: jax.Array, cache: dict, pads_B: jax.Array | None = None) -> tuple[jax.Array, dict]:
        """Outputs for the next N tokens, and the cache after them; see `zero_pads` for `pads_B`."""
        self.check_input(x_BND)
        x_BND = zero_pads(x_BND, pads_B).astype(self.dtype)
        x_BMD = jnp.concatenate([cache["inputs"], x_BND], axis=1)
        return self._mix(x_BND, cache["inputs"]), {"inputs": x_BMD[:, x_BMD.shape[1] - self.window + 1 :]}

    def step(self, x_BD: jax.Array, cache: dict) -> tuple[jax.Array, dict]:
        """Output for the next token, and the cache after it; the kernel is computed anew unless it was prepared."""
        self.check_input(x_BD, "batch")
        kernel = constant(self, "kernel", lambda: self._kernel_OWD().astype(self.dtype))
        x_BWD = jnp.concatenate([cache["inputs"], x_BD[:, None].astype(self.dtype)], axis=1)
        x_BF = x_BWD.reshape(len(x_BD), -1)
        if isinstance(kernel, ops.Int8):
            y_BD = ops.weight_product(x_BF, kernel, EXACT, implementation=self.implementation)
        else:
            kernel_OF = kernel.reshape(self.width, -1)
            y_BD = ops.matmul_outputs_first(x_BF, kernel_OF, EXACT, implementation=self.implementation)
        bias_D = self.projection()[1]
        return y_BD + bias_D[None].astype(self.dtype), {"inputs": x_BWD[:, 1:]}

    def frequency_response(self, points: int) -> jax.Array:
        """Root-mean-square magnitude (F, D) of each output's kernel over its inputs, from 0 to Nyquist.

        The mixer is a convolution whose kernel is the same transform of the projection's weight.
        """
        kernel_OWD = self._kernel_OWD()
        response_OFD = jnp.abs(jnp.fft.rfft(kernel_OWD, n=max(self.window, 2 * points - 2), axis=1))
        return jnp.sqrt(jnp.square(response_OFD).mean(axis=-1)).T

    def _mix(self, x_BND, past_BPD):
        weight_WDO, bias_D = self.projection()
        how = self.spectrum, self.norm, past_BPD, self.form
        y_BND = ops.stft_convolution(x_BND, weight_WDO, *how, implementation=self.implementation)
        return (y_BND + bias_D[None, None]).astype(self.dtype)

    def _kernel_OWD(self):
        return ops.window_spectrum(self.projection()[0].transpose(2, 0, 1), self.spectrum, self.norm)


class _Projection(nn.Module):
    """The dense map's parameters: weight (W, D, D) by window position, input and output, and bias (D,)."""

    window: int
    width: int

    @nn.compact
    def __call__(self) -> tuple[jax.Array, jax.Array]:
        shape = (self.window * self.width, self.width)
        kernel_FO = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias_D = self.param("bias", nn.initializers.zeros, (self.width,))
        return kernel_FO.reshape(self.window, self.width, self.width), bias_D
