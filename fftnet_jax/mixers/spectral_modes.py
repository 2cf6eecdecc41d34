"""A bank of causal filters that share learned resonances."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from fftnet_jax import ops
from fftnet_jax.mixers.dense import constant
from fftnet_jax.parallel import sequence


class SpectralModes(nn.Module):
    """Causal filters of any length from M shared, learned resonances; see `ops.modes`.

    Attributes:
      width: channels D.
      modes: resonances M; the slowest decays over `horizon` tokens at the start.
    """

    width: int
    modes: int = 32
    horizon: int = 4096
    implementation: str = "auto"

    def setup(self):
        self.log_decay = self.param("log_decay", self._initial_log_decay)
        self.frequency = self.param("frequency", self._initial_frequency)
        self.mix = self.param("mix", self._initial_mix, (2 * self.modes, self.width))

    def __call__(self, length: int) -> jax.Array:
        """The filters' taps by lag, (L, D)."""
        return self.shared_modes().taps(length)

    def convolve(self, u_BND: jax.Array, skip_D: jax.Array, state_BMD=None, start=0, final_state: bool = True):
        """The filters' output plus skip ⊙ u, in the dtype of u, and the state after it; see `ops.long_convolution`.

        Where sequences are split over devices, each has all tokens of some of the channels meanwhile.
        """
        u_BND, skip_D = sequence.to_channels(u_BND), sequence.own_channels(skip_D)
        how = {"final_state": final_state, "implementation": self.implementation}
        y_BND, state_BMD = ops.long_convolution(u_BND, self.shared_modes(), skip_D, state_BMD, start, **how)
        return sequence.to_tokens(y_BND.astype(u_BND.dtype)), state_BMD

    def prepare(self) -> None:
        """Leaves what `step` reads in the collection "constants"."""
        self.put_variable("constants", "token", ops.token_filter(self.shared_modes()))

    def step(self, u_BD: jax.Array, skip_D: jax.Array, state_BMD: jax.Array, position: jax.Array):
        """`convolve` of the token at `position`: (B, D), and the state after it."""
        token = constant(self, "token", lambda: ops.token_filter(self.shared_modes()))
        return ops.one_token(u_BD, token, skip_D, state_BMD, position, implementation=self.implementation)

    def shared_modes(self) -> ops.Modes:
        """The resonances, and their share in the channels that are this device's."""
        return ops.Modes(jnp.exp(self.log_decay), self.frequency, sequence.own_channels(self.mix))

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
