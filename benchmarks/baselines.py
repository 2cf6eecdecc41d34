"""What the mixers are measured against, in JAX: their plain definitions, and attention that fits long sequences.

Definitions read a mixer's parameters but share none of its shortcuts, so they stay what they are whatever
the mixers become.
"""

import jax
import jax.numpy as jnp

from benchmarks.timing import Contender, compiled, forward_backward, random_input
from fftnet_jax.config import ModelConfig
from fftnet_jax.mixers import build_mixer
from fftnet_jax.mixers.attention import rotary_frequencies, rotate
from fftnet_jax.spectral import causal_windows, modrelu, window_spectrum

FORMS = ("definition", "definition, direct sum", "attention, chunked")


def mixer_contender(
    name: str, batch: int, length: int, form: str = "ours", chunk: int = 128, forward_only: bool = False, **sizes
) -> Contender:
    """A mixer's time for (batch, length, sizes["width"]) random input, forward and backward unless said.

    Args:
      form: "ours" runs the library's module, or one of `FORMS`.
      chunk: of "attention, chunked": queries at a time.
      sizes: fields of `ModelConfig`.
    """
    # The bidirectional mixers need an encoder; a mixer alone is the same in both.
    mixer = build_mixer(name, ModelConfig(family="encoder", mixer=name, **sizes))
    width = sizes["width"]
    params = jax.jit(mixer.init)(jax.random.key(0), jnp.zeros((1, 8, width)))["params"]
    functions = {
        ("causal_stft", "definition"): lambda p, x: stft(p, x, sizes["window"]),
        ("fftnet", "definition"): fftnet,
        ("causal_fftnet", "definition"): lambda p, x: causal_fftnet(mixer, p, x, fft_convolution),
        ("causal_fftnet", "definition, direct sum"): lambda p, x: causal_fftnet(mixer, p, x, direct_convolution),
        ("attention", "attention, chunked"): lambda p, x: chunked_attention(p, x, mixer.num_heads, chunk),
    }
    function = (lambda p, x: mixer.apply({"params": p}, x)) if form == "ours" else functions[name, form]
    return (compiled if forward_only else forward_backward)(function, params, random_input(batch, length, width))


def stft(params: dict, x_BND: jax.Array, window: int) -> jax.Array:
    """Causal STFT mixer: every window, its FFT2's real part, a dense map."""
    F_BNWD = window_spectrum(causal_windows(x_BND, window))
    dense = params["projection"]
    return F_BNWD.reshape(*x_BND.shape[:2], -1) @ dense["kernel"] + dense["bias"][None, None]


def fftnet(params: dict, u_BND: jax.Array) -> jax.Array:
    """FFTNet: complex FFT of full length, one gain per channel, modReLU, inverse, real part."""
    f = params["spectral_filter"]
    context_BD = u_BND.mean(axis=1)
    hidden = jax.nn.relu(context_BD @ f["mlp_0"]["kernel"] + f["mlp_0"]["bias"][None])
    gain_BD = f["base"] + hidden @ f["mlp_1"]["kernel"] + f["mlp_1"]["bias"][None]
    Z_BND = jnp.fft.fft(u_BND, axis=1) * gain_BD[:, None].astype(jnp.complex64)
    return jnp.fft.ifft(modrelu(Z_BND, params["modrelu"]["bias"][None, None]), axis=1).real


def causal_fftnet(mixer, params: dict, x_BND: jax.Array, convolution) -> jax.Array:
    """The flagship with the given way to convolve (B, N, D) with taps (N, D)."""
    length, taps_KD = x_BND.shape[1], params["taps"]
    z_BND = x_BND @ params["qkv"]["kernel"]
    shifted = (jnp.pad(z_BND, ((0, 0), (lag, 0), (0, 0)))[:, :length] for lag in range(taps_KD.shape[0]))
    z_BND = sum(taps_KD[lag][None, None] * moved for lag, moved in enumerate(shifted))
    q_BND, k_BND, v_BND = jnp.split(z_BND, 3, axis=-1)
    h_ND = mixer.apply({"params": params}, length, method=lambda module, count: module.filter(count))
    u_BND = k_BND * v_BND
    y_BND = convolution(u_BND, h_ND) + params["skip"][None, None] * u_BND
    return (q_BND * y_BND) @ params["out"]["kernel"]


def fft_convolution(u_BND: jax.Array, h_ND: jax.Array) -> jax.Array:
    """By the convolution theorem, `jnp.fft` over the token axis, padded to twice the length."""
    length = u_BND.shape[1]
    U_BFD, H_FD = jnp.fft.rfft(u_BND, 2 * length, axis=1), jnp.fft.rfft(h_ND, 2 * length, axis=0)
    return jnp.fft.irfft(U_BFD * H_FD[None], 2 * length, axis=1)[:, :length]


def direct_convolution(u_BND: jax.Array, h_ND: jax.Array) -> jax.Array:
    """The sum over all lags, as a Toeplitz matrix per channel; memory O(N² D)."""
    lag_NM = jnp.arange(u_BND.shape[1])[:, None] - jnp.arange(u_BND.shape[1])[None]
    toeplitz_NMD = jnp.where(lag_NM[..., None] >= 0, h_ND[jnp.abs(lag_NM)], 0.0)
    return jnp.einsum("nmd,bmd->bnd", toeplitz_NMD, u_BND)


def chunked_attention(params: dict, x_BND: jax.Array, num_heads: int, chunk: int, groups: int = 8) -> jax.Array:
    """`fftnet_jax.mixers.Attention` in memory O(chunk · N): queries by chunks, recomputed in the backward pass.

    Each of `groups` equal spans of queries looks at the keys up to its end only, which saves 7/16 of the
    products that a causal mask throws away. Where `groups` × `chunk` does not divide N there is one group.
    """
    batch, length, width = x_BND.shape
    chunk = min(chunk, length)
    groups = groups if length % (groups * chunk) == 0 else 1
    q, k, v = jnp.split((x_BND @ params["qkv"]["kernel"]).reshape(batch, length, 3 * num_heads, -1), 3, axis=2)
    positions_N, frequency_K = jnp.arange(length), rotary_frequencies(q.shape[-1])
    q, k = rotate(q, positions_N, frequency_K), rotate(k, positions_N, frequency_K)
    q_BHNK, k_BHNK, v_BHNK = (part.swapaxes(1, 2) for part in (q, k, v))  # heads first: no transposed copies later

    @jax.checkpoint
    def attend(q_BHCK, start, k_BHMK, v_BHMK):
        seen_CM = jnp.arange(k_BHMK.shape[2])[None] <= (start + jnp.arange(chunk))[:, None]
        logits_BHCM = jnp.einsum("bhck,bhmk->bhcm", q_BHCK, k_BHMK) * q_BHCK.shape[-1] ** -0.5
        weights_BHCM = jax.nn.softmax(jnp.where(seen_CM[None, None], logits_BHCM, -1e30))
        return jnp.einsum("bhcm,bhmk->bhck", weights_BHCM, v_BHMK)

    parts, span = [], length // groups
    for begin in range(0, length, span):
        held = [part_BHNK[:, :, : begin + span] for part_BHNK in (k_BHNK, v_BHNK)]
        queries = q_BHNK[:, :, begin : begin + span].reshape(batch, num_heads, span // chunk, chunk, -1)
        chunks = (queries.transpose(2, 0, 1, 3, 4), begin + jnp.arange(0, span, chunk))
        _, y = jax.lax.scan(lambda none, part, held=held: (none, attend(*part, *held)), None, chunks)
        parts.append(y.transpose(1, 0, 3, 2, 4).reshape(batch, span, width))
    return jnp.concatenate(parts, axis=1) @ params["out"]["kernel"]
