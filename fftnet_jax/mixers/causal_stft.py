"""Causal STFT mixer: a 2-D FFT of each token's last W tokens, made real, and a dense map."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from fftnet_jax.spectral import valid_windows, window_spectrum


class CausalSTFT(nn.Module):
    """Windows → FFT2 → real spectrum → dense: (B, N, D) → (B, N, D).

    The original's definition: y_t = P · flatten(Re FFT2(x[t-W+1 .. t])) + bias, with the window's
    tokens (oldest first) before its channels in the flattened features.

    Attributes:
      width: channels D.
      window: tokens per window W.
      spectrum: "real" as in the original, or "hartley" (see `spectral.window_spectrum`).
      norm: "none" as in the original, or "ortho".
    """

    width: int
    window: int = 32
    spectrum: str = "real"
    norm: str = "none"
    dtype: jnp.dtype = jnp.float32

    causal = True

    def setup(self):
        self.projection = nn.Dense(self.width, dtype=self.dtype)

    def __call__(self, x_BND: jax.Array) -> jax.Array:
        return self.prefill(x_BND, self.init_cache(x_BND.shape[0], 0))[0]

    @nn.nowrap
    def init_cache(self, batch: int, length: int) -> dict:
        """The last W-1 inputs, zeros before the start; `length` (tokens to come) does not matter."""
        return {"inputs": jnp.zeros((batch, self.window - 1, self.width), self.dtype)}

    def prefill(self, x_BND: jax.Array, cache: dict) -> tuple[jax.Array, dict]:
        """Outputs for the next N tokens, and the cache after them."""
        x_BMD = jnp.concatenate([cache["inputs"], x_BND.astype(self.dtype)], axis=1)
        F_BNWD = window_spectrum(valid_windows(x_BMD, self.window), self.spectrum, self.norm)
        y_BND = self.projection(F_BNWD.reshape(*x_BND.shape[:2], -1).astype(self.dtype))
        return y_BND, {"inputs": x_BMD[:, x_BMD.shape[1] - self.window + 1 :]}

    def frequency_response(self, points: int) -> jax.Array:
        """Root-mean-square magnitude (F, D) of each output's kernel over its inputs, from 0 to Nyquist.

        The mixer is a convolution whose kernel is the same transform of the projection's weight.
        """
        weight_OWD = self.projection.variables["params"]["kernel"].T.reshape(self.width, self.window, self.width)
        kernel_OWD = window_spectrum(weight_OWD, self.spectrum, self.norm)
        response_OFD = jnp.abs(jnp.fft.rfft(kernel_OWD, n=max(self.window, 2 * points - 2), axis=1))
        return jnp.sqrt(jnp.square(response_OFD).mean(axis=-1)).T

    def step(self, x_BD: jax.Array, cache: dict) -> tuple[jax.Array, dict]:
        """Output for the next token, and the cache after it."""
        y_BND, cache = self.prefill(x_BD[:, None], cache)
        return y_BND[:, 0], cache
