"""CausalFFTNet, the flagship mixer: FFTNet's adaptive spectral filter made causal.

Three projections pass short local filters; one gates the input of a global causal filter, one its
output. The gates make the filter adapt to the content, as FFTNet's network on the mean does, but from
the past only. The global filter's transfer function is learned in the frequency domain as a sum of
resonances (damped oscillations in time), so it is causal, works at any length, and costs O(N log N).

    q, k, v = short filters of x W
    y = (q ⊙ (h * (k ⊙ v) + skip ⊙ k ⊙ v)) W_out
    h[t] = sum over modes m of exp(-t / τ_m) (a_m cos ω_m t + b_m sin ω_m t), channel by channel

Sources: FFTNet (arXiv 2502.18394) for the spectral filter; Hyena (Poli et al. 2023, arXiv 2302.10866)
for gates around a long convolution; S4D (Gu et al. 2022, arXiv 2206.11893) for diagonal modes.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from fftnet_jax.spectral import causal_convolution, short_convolution


class SpectralModes(nn.Module):
    """A bank of causal filters: taps (L, D) at any length L from M shared, learned resonances.

    Attributes:
      width: channels D.
      modes: resonances M; the slowest decays over `horizon` tokens at the start.
    """

    width: int
    modes: int = 32
    horizon: int = 4096

    @nn.compact
    def __call__(self, length: int) -> jax.Array:
        log_decay_M = self.param("log_decay", self._initial_log_decay)
        frequency_M = self.param("frequency", self._initial_frequency)
        mix_MD = self.param("mix", self._initial_mix, (2 * self.modes, self.width))
        t_L1 = jnp.arange(length, dtype=jnp.float32)[:, None]
        envelope_LM = jnp.exp(-t_L1 * jnp.exp(log_decay_M)[None])
        angle_LM = t_L1 * frequency_M[None]
        basis_LM = jnp.concatenate([envelope_LM * jnp.cos(angle_LM), envelope_LM * jnp.sin(angle_LM)], axis=1)
        return basis_LM @ mix_MD

    def _initial_log_decay(self, key):
        # Decay times from one token to the horizon, evenly in the logarithm.
        return -jnp.linspace(0.0, jnp.log(float(self.horizon)), self.modes)

    def _initial_mix(self, key, shape):
        # The mean of the modes that only decay, a slow fall over all time scales, and a little of everything.
        mix_MD = 0.2 * jax.random.normal(key, shape) * shape[0] ** -0.5
        return mix_MD.at[: self.modes : 2].add(2.0 / self.modes)

    def _initial_frequency(self, key):
        # Half of the modes only decay, the others oscillate within their own decay time.
        turns = jnp.where(jnp.arange(self.modes) % 2 == 0, 0.0, jnp.pi / 2)
        return turns * jnp.exp(self._initial_log_decay(key))


class CausalFFTNet(nn.Module):
    """Gated global causal spectral filter: (B, N, D) → (B, N, D).

    Attributes:
      width: channels D.
      modes, horizon: of the global filter, see `SpectralModes`.
      short_filter: taps of the local filters.
    """

    width: int
    modes: int = 32
    horizon: int = 4096
    short_filter: int = 4
    dtype: jnp.dtype = jnp.float32

    causal = True

    def setup(self):
        self.qkv = nn.Dense(3 * self.width, use_bias=False, dtype=self.dtype, kernel_init=_matched_gates)
        self.out = nn.Dense(self.width, use_bias=False, dtype=self.dtype)
        self.taps = self.param("taps", _shifted_taps, (self.short_filter, 3 * self.width))
        self.skip = self.param("skip", nn.initializers.ones, (self.width,))
        self.filter = SpectralModes(self.width, self.modes, self.horizon)

    def __call__(self, x_BND: jax.Array) -> jax.Array:
        q_BND, u_BND = self._gates(short_convolution(self.qkv(x_BND), self.taps))
        return self._out(q_BND, u_BND, causal_convolution(u_BND, self.filter(x_BND.shape[1])))

    @nn.nowrap
    def init_cache(self, batch: int, length: int) -> dict:
        """The global filter's inputs so far (B, L, D), the last local inputs, and how many tokens there are."""
        return {
            "inputs": jnp.zeros((batch, length, self.width), self.dtype),
            "local": jnp.zeros((batch, self.short_filter - 1, 3 * self.width), self.dtype),
            "position": jnp.zeros((), jnp.int32),
        }

    def prefill(self, x_BND: jax.Array, cache: dict) -> tuple[jax.Array, dict]:
        """Outputs for the next N tokens, and the cache after them."""
        u_BND, q_BND, cache, start = self._extend(x_BND, cache)
        y_BLD = causal_convolution(cache["inputs"], self.filter(cache["inputs"].shape[1]))
        y_BND = jax.lax.dynamic_slice_in_dim(y_BLD, start, x_BND.shape[1], axis=1)
        return self._out(q_BND, u_BND, y_BND), cache

    def step(self, x_BD: jax.Array, cache: dict) -> tuple[jax.Array, dict]:
        """Output for the next token, and the cache after it: one dot product with the past per channel."""
        u_B1D, q_B1D, cache, start = self._extend(x_BD[:, None], cache)
        length = cache["inputs"].shape[1]
        lag_L = start - jnp.arange(length)
        h_LD = jnp.where(lag_L[:, None] >= 0, jnp.take(self.filter(length), jnp.maximum(lag_L, 0), axis=0), 0.0)
        y_BD = jnp.einsum("bld,ld->bd", cache["inputs"].astype(jnp.float32), h_LD)
        return self._out(q_B1D, u_B1D, y_BD[:, None])[:, 0], cache

    def frequency_response(self, points: int) -> jax.Array:
        """Magnitude (F, D) of the global filter with its skip, at F frequencies from 0 to Nyquist."""
        return jnp.abs(jnp.fft.rfft(self.filter(2 * points - 2), axis=0) + self.skip[None].astype(jnp.complex64))

    def _extend(self, x_BND, cache):
        length, start = x_BND.shape[1], cache["position"]
        z_BMD = jnp.concatenate([cache["local"], self.qkv(x_BND)], axis=1)
        q_BND, u_BND = self._gates(short_convolution(z_BMD, self.taps)[:, self.short_filter - 1 :])
        cache = {
            "inputs": jax.lax.dynamic_update_slice_in_dim(cache["inputs"], u_BND, start, axis=1),
            "local": z_BMD[:, length:],
            "position": start + length,
        }
        return u_BND, q_BND, cache, start

    def _gates(self, z_BND):
        q_BND, k_BND, v_BND = jnp.split(z_BND, 3, axis=-1)
        return q_BND, k_BND * v_BND

    def _out(self, q_BND, u_BND, y_BND):
        return self.out(q_BND * (y_BND + self.skip[None, None] * u_BND.astype(jnp.float32)).astype(self.dtype))


def _matched_gates(key, shape, dtype=jnp.float32):
    """q and k start equal, so that a token finds its own kind in the past from the first step on."""
    _, k_DD, v_DD = jnp.split(nn.initializers.lecun_normal()(key, shape, dtype), 3, axis=1)
    return jnp.concatenate([k_DD, k_DD, v_DD], axis=1)


def _shifted_taps(key, shape):
    """Each channel starts as its current token, half of k's as the token before it, so that v follows what k names.

    Source of the shift: H3 (Dao et al. 2022, arXiv 2212.14052).
    """
    taps, width = shape[0], shape[1] // 3
    lag_D = jnp.arange(width) % min(2, taps)
    none_D = jnp.zeros_like(lag_D)
    taps_KD = 0.1 * jax.random.normal(key, shape)
    return taps_KD.at[jnp.concatenate([none_D, lag_D, none_D]), jnp.arange(3 * width)].add(1.0)
