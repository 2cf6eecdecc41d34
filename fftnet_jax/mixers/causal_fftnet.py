"""CausalFFTNet, the flagship mixer: FFTNet's adaptive spectral filter made causal.

Three projections pass short local filters; one gates the input of a global causal filter, one its
output. The gates make the filter adapt to the content, as FFTNet's network on the mean does, but from
the past only. The global filter's transfer function is learned in the frequency domain as a sum of
resonances (damped oscillations in time), so it is causal, works at any length, and costs O(N log N) or,
in blocks, O(N).

    q, k, v = short filters of x W
    y = (q ⊙ (h * (k ⊙ v) + skip ⊙ k ⊙ v)) W_out
    h[t] = sum over modes m of exp(-t / τ_m) (a_m cos ω_m t + b_m sin ω_m t), channel by channel

Sources: FFTNet (arXiv 2502.18394) for the spectral filter; Hyena (Poli et al. 2023, arXiv 2302.10866)
for gates around a long convolution; S4D (Gu et al. 2022, arXiv 2206.11893) for diagonal modes.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from fftnet_jax.matmul import matmul, matmuls
from fftnet_jax.mixers.base import Mixer, option, register, zero_pads
from fftnet_jax.parallel import sequence
from fftnet_jax.spectral import (
    advance_state,
    causal_convolution,
    damped_waves,
    modal_convolution,
    short_convolution,
    state_output,
)
from fftnet_jax.spectral.convolution import DIRECT_LIMIT


class SpectralModes(nn.Module):
    """A bank of causal filters: taps (L, D) at any length L from M shared, learned resonances.

    Attributes:
      width: channels D.
      modes: resonances M; the slowest decays over `horizon` tokens at the start.
    """

    width: int
    modes: int = 32
    horizon: int = 4096

    def setup(self):
        self.log_decay = self.param("log_decay", self._initial_log_decay)
        self.frequency = self.param("frequency", self._initial_frequency)
        self.mix = self.param("mix", self._initial_mix, (2 * self.modes, self.width))

    def __call__(self, length: int) -> jax.Array:
        lag_L = jnp.arange(length)
        return damped_waves(jnp.exp(self.log_decay), self.frequency, lag_L, lag_L) @ sequence.own_channels(self.mix)

    def convolve(self, u_BND: jax.Array, skip_D: jax.Array) -> jax.Array:
        """The filter's output plus skip ⊙ u, (B, N, D), by whichever form is faster.

        The skip is part of the tap at lag 0: apart from it, it would take another pass, and a sum over all tokens for
        its gradient.
        """
        u_BND, skip_D = sequence.to_channels(u_BND), sequence.own_channels(skip_D)
        if jax.default_backend() == "cpu" and u_BND.shape[1] > DIRECT_LIMIT:
            mix_MD = sequence.own_channels(self.mix)
            y_BND = modal_convolution(u_BND, jnp.exp(self.log_decay), self.frequency, mix_MD, skip_D)
        else:
            y_BND = causal_convolution(u_BND, self(u_BND.shape[1]).at[0].add(skip_D))
        return sequence.to_tokens(y_BND)

    def advance(self, state_BMD: jax.Array, u_BND: jax.Array, start: jax.Array) -> jax.Array:
        """The state after the next N inputs, of which the first is at position `start`."""
        return advance_state(state_BMD, u_BND, jnp.exp(self.log_decay), self.frequency, start)

    def output(self, state_BMD: jax.Array, age_N: jax.Array, position_N: jax.Array) -> jax.Array:
        """The part (B, N, D) of the filter's output at N positions that a state holds, of that age there."""
        waves_NM = damped_waves(jnp.exp(self.log_decay), self.frequency, age_N, position_N)
        return state_output(state_BMD, self.mix, waves_NM)

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


@register("causal_fftnet")
class CausalFFTNet(Mixer):
    """Gated global causal spectral filter: (B, N, D) → (B, N, D).

    Attributes:
      width: channels D.
      modes, horizon: of the global filter, see `SpectralModes`.
      short_filter: taps of the local filters.
    """

    width: int
    modes: int = option(
        32, "causal_fftnet: damped oscillations that span the filters", minimum=1, declared_as="filter_modes"
    )
    horizon: int = option(
        4096, "causal_fftnet: slowest decay time at the start, tokens", minimum=2, declared_as="filter_horizon"
    )
    short_filter: int = option(4, "causal_fftnet: taps of the local filters before the gates", minimum=1)
    dtype: jnp.dtype = jnp.float32

    causal = True

    def setup(self):
        self.qkv = _Projections(self.width, 3, _matched_gates, self.dtype)
        self.out = _Projections(self.width, 1, nn.initializers.lecun_normal(), self.dtype)
        self.taps = self.param("taps", _shifted_taps, (self.short_filter, 3 * self.width))
        self.skip = self.param("skip", nn.initializers.ones, (self.width,))
        self.filter = SpectralModes(self.width, self.modes, self.horizon)

    def __call__(self, x_BND: jax.Array) -> jax.Array:
        if x_BND.shape[1] < 1:
            raise ValueError(f"need at least one token, got input {x_BND.shape}")
        # With the tokens before ahead of the projections, of which each would need them otherwise.
        z_BMD = self.qkv(jnp.concatenate([self._past(x_BND), x_BND], axis=1))
        q, k, v = zip(z_BMD, jnp.split(self.taps, 3, axis=1), strict=True)
        y_BND = self.filter.convolve(_gated_input(k, v), self.skip)
        return _gated_output(q, y_BND.astype(self.dtype), self.out.kernel)

    @nn.nowrap
    def init_cache(self, batch: int, length: int) -> dict:
        """The filter's state, the last local inputs, how many tokens there are; `length` (to come) does not matter."""
        return {
            "state": jnp.zeros((batch, 2 * self.modes, self.width), jnp.float32),
            "local": jnp.zeros((batch, self.short_filter - 1, 3 * self.width), self.dtype),
            "position": jnp.zeros((), jnp.int32),
        }

    def prefill(self, x_BND: jax.Array, cache: dict, pads_B: jax.Array | None = None) -> tuple[jax.Array, dict]:
        """Outputs for the next N tokens, and the cache after them; see `pads` for `pads_B`."""
        q_BND, u_BND, cache, start = self._extend(zero_pads(x_BND, pads_B), cache)
        place_N = jnp.arange(x_BND.shape[1])
        y_BND = self.filter.convolve(u_BND, self.skip)
        y_BND += self.filter.output(cache["state"], place_N + 1, start + place_N)
        return self._out(q_BND, y_BND), cache | {"state": self.filter.advance(cache["state"], u_BND, start)}

    def step(self, x_BD: jax.Array, cache: dict) -> tuple[jax.Array, dict]:
        """Output for the next token, and the cache after it, in O(M D) whatever the length of the past."""
        q_B1D, u_B1D, cache, start = self._extend(x_BD[:, None], cache)
        state_BMD = self.filter.advance(cache["state"], u_B1D, start)
        y_B1D = self.filter.output(state_BMD, jnp.zeros(1), start[None])
        y_B1D += self.skip[None, None] * u_B1D.astype(jnp.float32)
        return self._out(q_B1D, y_B1D)[:, 0], cache | {"state": state_BMD}

    def frequency_response(self, points: int) -> jax.Array:
        """Magnitude (F, D) of the global filter with its skip, at F frequencies from 0 to Nyquist."""
        return jnp.abs(jnp.fft.rfft(self.filter(2 * points - 2), axis=0) + self.skip[None].astype(jnp.complex64))

    def _extend(self, x_BND, cache):
        length, start = x_BND.shape[1], cache["position"]
        z_BMD = jnp.concatenate([cache["local"], jnp.concatenate(self.qkv(x_BND), axis=2)], axis=1)
        q_BND, k_BND, v_BND = jnp.split(short_convolution(z_BMD, self.taps), 3, axis=2)
        return q_BND, k_BND * v_BND, cache | {"local": z_BMD[:, length:], "position": start + length}, start

    def _past(self, x_BND):
        count = self.short_filter - 1
        past_BPD = sequence.before(x_BND, count)
        return jnp.zeros((x_BND.shape[0], count, x_BND.shape[2]), x_BND.dtype) if past_BPD is None else past_BPD

    def _out(self, q_BND, y_BND):
        return self.out(q_BND * y_BND.astype(self.dtype))[0]


# Recomputed for the gradient from the projections: that costs less than the memory to keep it.
@jax.checkpoint
def _gated_input(k, v):
    return short_convolution(*k) * short_convolution(*v)


@jax.checkpoint
def _gated_output(q, y_BND, kernel_DD):
    return matmul(short_convolution(*q) * y_BND, kernel_DD)


class _Projections(nn.Module):
    """Linear maps (B, N, D) → (B, N, D), several in one parameter, with a product and an array for each.

    Slices and concatenations of one wide array would cost more than the wide product saves.
    """

    width: int
    count: int
    kernel_init: nn.initializers.Initializer
    dtype: jnp.dtype

    def setup(self):
        self.kernel = self.param("kernel", self.kernel_init, (self.width, self.count * self.width))

    def __call__(self, x_BND: jax.Array) -> list[jax.Array]:
        return matmuls(x_BND.astype(self.dtype), jnp.split(self.kernel, self.count, axis=1))


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
