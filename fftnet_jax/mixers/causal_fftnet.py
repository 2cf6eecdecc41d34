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

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from fftnet_jax import ops
from fftnet_jax.mixers.base import Mixer, option, register, zero_pads
from fftnet_jax.mixers.dense import Kernel, constant
from fftnet_jax.mixers.spectral_modes import SpectralModes
from fftnet_jax.parallel import sequence


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
    precision: str = "default"
    implementation: str = "auto"

    causal = True

    def setup(self):
        self.qkv = Kernel(self.width, 3 * self.width, _matched_gates)
        self.out = Kernel(self.width, self.width)
        self.taps = self.param("taps", _shifted_taps, (self.short_filter, 3 * self.width))
        self.skip = self.param("skip", nn.initializers.ones, (self.width,))
        self.filter = SpectralModes(self.width, self.modes, self.horizon, self.implementation)

    def __call__(self, x_BND: jax.Array) -> jax.Array:
        self.check_input(x_BND)
        past_BPD = sequence.before(x_BND, self.short_filter - 1)
        if past_BPD is None and ops.gated_convolution.has(self.implementation):
            return self._at_once(x_BND)
        if past_BPD is None:
            past_BPD = jnp.zeros((x_BND.shape[0], self.short_filter - 1, x_BND.shape[2]), x_BND.dtype)
        # The tokens before go through the projections too, which would each need a place for them otherwise.
        qkv = self._project(jnp.concatenate([past_BPD, x_BND], axis=1))
        return self._mix(qkv, final_state=False)[0]

    @nn.nowrap
    def init_cache(self, batch: int, length: int) -> dict:
        """The filter's state, the last local inputs, how many tokens there are; `length` (to come) does not matter."""
        return {
            "state": jnp.zeros((batch, 2 * self.modes, self.width), jnp.float32),
            "local": jnp.zeros((batch, self.short_filter - 1, 3 * self.width), self.dtype),
            "position": jnp.zeros((), jnp.int32),
        }

    def prepare(self, weights: str | None = None) -> None:
        """Leaves what steps read in the collection "constants"."""
        self.qkv.prepare(self.dtype, weights)
        self.out.prepare(self.dtype, weights)
        self.put_variable("constants", "taps", self._taps())
        self.filter.prepare()

    def prefill(self, x_BND: jax.Array, cache: dict, pads_B: jax.Array | None = None) -> tuple[jax.Array, dict]:
        """Outputs for the next N tokens, and the cache after them; see `zero_pads` for `pads_B`."""
        self.check_input(x_BND)
        before = jnp.split(cache["local"], 3, axis=2)
        pairs = zip(before, self._project(zero_pads(x_BND, pads_B)), strict=True)
        qkv, length = [jnp.concatenate(pair, axis=1) for pair in pairs], x_BND.shape[1]
        y_BND, state_BMD = self._mix(qkv, cache["state"], cache["position"])
        local = jnp.concatenate([z_BMD[:, length:] for z_BMD in qkv], axis=2)
        return y_BND, {"state": state_BMD, "local": local, "position": cache["position"] + length}

    def step(self, x_BD: jax.Array, cache: dict) -> tuple[jax.Array, dict]:
        """Output for the next token, and the cache after it, in O(M D) whatever the length of the past."""
        self.check_input(x_BD, "batch")
        how = {"precision": self.precision, "implementation": self.implementation}
        new = ops.weight_products(x_BD.astype(self.dtype), self.qkv.prepared(), 3, **how)
        new_BE, local_BPE = jnp.concatenate(new, axis=1), cache["local"]
        taps = constant(self, "taps", self._taps)
        short_BE = new_BE * taps[0][None]
        for lag in range(1, self.short_filter):
            short_BE += local_BPE[:, -lag] * taps[lag][None]
        q, k, v = jnp.split(short_BE, 3, axis=1)
        y_BD, state_BMD = self.filter.step(k * v, self.skip, cache["state"], cache["position"])
        y_BD = ops.weight_product(q * y_BD.astype(self.dtype), self.out.prepared(), **how)
        local_BPE = jnp.concatenate([local_BPE, new_BE[:, None]], axis=1)[:, 1:]
        return y_BD, {"state": state_BMD, "local": local_BPE, "position": cache["position"] + 1}

    def frequency_response(self, points: int) -> jax.Array:
        """Magnitude (F, D) of the global filter with its skip, at F frequencies from 0 to Nyquist."""
        return jnp.abs(jnp.fft.rfft(self.filter(2 * points - 2), axis=0) + self.skip[None].astype(jnp.complex64))

    def _at_once(self, x_BND):
        """A whole sequence where the mixing between the two dense maps is one operation."""
        how = {"precision": self.precision, "implementation": self.implementation}
        z_BNE = ops.matmul(x_BND.astype(self.dtype), self.qkv(), **how)
        modes, named = self.filter.shared_modes(), {"implementation": self.implementation}
        y_BND = ops.gated_convolution(z_BNE, self.taps, modes, self.skip, **named)
        return ops.matmul(y_BND, self.out(), **how)

    def _project(self, x_BMD):
        how = {"precision": self.precision, "implementation": self.implementation}
        return ops.matmuls(x_BMD.astype(self.dtype), self.qkv(), 3, **how)

    def _taps(self):
        """A row for each lag, in the dtype, so that a step need not slice."""
        return list(self.taps.astype(self.dtype))

    def _mix(self, qkv, state_BMD=None, start=0, final_state=True):
        """The output and the state after it, from the projections of N tokens and of those before."""
        q, k, v = zip(qkv, jnp.split(self.taps, 3, axis=1), strict=True)
        u_BND = _gated_input(k, v, self.implementation)
        y_BND, state_BMD = self.filter.convolve(u_BND, self.skip, state_BMD, start, final_state)
        y_BND = _gated_output(q, y_BND.astype(self.dtype), self.out(), self.precision, self.implementation)
        return y_BND, state_BMD


# Recomputed for the gradient from the projections: that costs less than the memory to keep it.
@partial(jax.checkpoint, static_argnums=2)
def _gated_input(k, v, implementation):
    short = partial(ops.short_convolution, implementation=implementation)
    return short(*k) * short(*v)


@partial(jax.checkpoint, static_argnums=(3, 4))
def _gated_output(q, y_BND, kernel_DD, precision, implementation):
    gated_BND = ops.short_convolution(*q, implementation=implementation) * y_BND
    return ops.matmul(gated_BND, kernel_DD, precision, implementation=implementation)


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
