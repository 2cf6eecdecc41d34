"""Real-valued spectra of windows."""

import jax
import jax.numpy as jnp

SPECTRA, NORMS = ("real", "hartley"), ("none", "ortho")


def window_spectrum(w_BNWD: jax.Array, spectrum: str = "real", norm: str = "none") -> jax.Array:
    """2-D DFT of each window over its tokens and channels, made real; same shape, float32.

    Args:
      w_BNWD: windows (B, N, W, D); taken to float32, the FFT's type.
      spectrum: "real" keeps Re F (the original: half of the information, since the spectrum of
        real data is symmetric); "hartley" keeps Re F - Im F, which loses nothing.
      norm: "none", or "ortho" for a scale of 1 / sqrt(W D), which keeps the input's variance.

    Raises:
      ValueError: another spectrum or norm.
    """
    check_spectrum(spectrum, norm)
    F_BNWD = jnp.fft.fftn(w_BNWD.astype(jnp.float32), axes=(-2, -1), norm="ortho" if norm == "ortho" else "backward")
    return F_BNWD.real if spectrum == "real" else F_BNWD.real - F_BNWD.imag


def check_spectrum(spectrum: str, norm: str) -> None:
    for name, value, known in (("spectrum", spectrum, SPECTRA), ("norm", norm, NORMS)):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}; got {value!r}")
