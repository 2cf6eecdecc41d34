"""`from_torch` against both originals written in plain NumPy, float64, on shapes that no golden has."""

import math
from functools import partial

import jax
import numpy as np
import pytest

from fftnet_jax.interop import from_torch

RNG = np.random.default_rng


@partial(jax.jit, static_argnums=0)
def apply(model, params, ids):
    return model.apply({"params": params}, ids)


def layer_norm(x, state, name, epsilon):
    centred = x - x.mean(-1, keepdims=True)
    return (
        centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon) * state[f"{name}.weight"]
        + state[f"{name}.bias"]
    )


def linear(x, state, name):
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def positions(length, width):
    table = np.zeros((length, width))
    for channel in range(width):
        angle = np.arange(length) / 10000 ** (2 * (channel // 2) / width)
        table[:, channel] = np.sin(angle) if channel % 2 == 0 else np.cos(angle)
    return table


def fftnet(state, ids, depth, norms):
    """System A; also the share of spectral bins that modReLU sets to zero."""
    table, zeroed = state["embedding.weight"], []
    x = table[ids] * math.sqrt(table.shape[1]) + positions(ids.shape[1], table.shape[1])
    for i in range(depth):
        layer = f"layers.{i}"
        u = layer_norm(x, state, f"{layer}.input_norm", 1e-5) if norms else x
        hidden = np.maximum(linear(u.mean(1, keepdims=True), state, f"{layer}.adaptive_filter.mlp.0"), 0)
        gain = state[f"{layer}.adaptive_filter.W_base"] + linear(hidden, state, f"{layer}.adaptive_filter.mlp.2")
        spectrum = np.fft.fft(u, axis=1) * gain
        magnitude = np.maximum(np.abs(spectrum) + state[f"{layer}.modrelu.bias"], 0)
        zeroed.append((magnitude == 0).mean())
        x = x + np.fft.ifft(magnitude * spectrum / (np.abs(spectrum) + 1e-10), axis=1).real
        x = layer_norm(x, state, f"{layer}.output_norm", 1e-5) if norms else x
    x = layer_norm(x, state, "output_norm", 1e-5) if norms else x
    return linear(x, state, "output_proj"), np.mean(zeroed)


def causal_stft_fnet(state, ids, depth, window):
    """System B."""
    batch, length = ids.shape
    x = state["embeddings.word_embeddings.weight"][ids] + state["embeddings.pos_embeddings.weight"][:length]
    x = layer_norm(x, state, "embeddings.norm", 1e-12)
    for i in range(depth):
        layer = f"encoder.{i}"
        features = np.zeros((batch, length, window * x.shape[-1]))
        for b in range(batch):
            for t in range(length):
                frame = np.zeros((window, x.shape[-1]))
                for lag in range(min(window, t + 1)):
                    frame[window - 1 - lag] = x[b, t - lag]
                features[b, t] = np.fft.fft2(frame).real.ravel()
        x = layer_norm(x + linear(features, state, f"{layer}.causal_stft.projection"), state, f"{layer}.norm1", 1e-12)
        hidden = linear(x, state, f"{layer}.ffn.dense1")
        hidden = hidden * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2))) / 2
        x = layer_norm(x + linear(hidden, state, f"{layer}.ffn.dense2"), state, f"{layer}.norm2", 1e-12)
    return x @ state.get("lm_head.weight", state["embeddings.word_embeddings.weight"]).T


def norm(rng, name, width):
    return {f"{name}.weight": 1 + 0.2 * rng.normal(size=width), f"{name}.bias": 0.2 * rng.normal(size=width)}


def dense(rng, name, inputs, outputs):
    weight = rng.normal(size=(outputs, inputs)) / math.sqrt(inputs)
    return {f"{name}.weight": weight, f"{name}.bias": 0.2 * rng.normal(size=outputs)}


def random_fftnet(rng, length, width, depth, hidden, vocabulary, norms):
    state = {"embedding.weight": rng.normal(size=(vocabulary, width)) / math.sqrt(width)}
    state |= dense(rng, "output_proj", width, vocabulary) | (norm(rng, "output_norm", width) if norms else {})
    for i in range(depth):
        layer = f"layers.{i}"
        state |= norm(rng, f"{layer}.input_norm", width) | norm(rng, f"{layer}.output_norm", width)
        state |= dense(rng, f"{layer}.adaptive_filter.mlp.0", width, hidden)
        state |= dense(rng, f"{layer}.adaptive_filter.mlp.2", hidden, width)
        state[f"{layer}.adaptive_filter.W_base"] = 1 + 0.5 * rng.normal(size=(1, 1, width))
        state[f"{layer}.modrelu.bias"] = math.sqrt(length) * rng.normal(size=(1, 1, width))
    return state


def random_stft(rng, length, width, depth, hidden, vocabulary, window, tied):
    state = {
        "embeddings.word_embeddings.weight": rng.normal(size=(vocabulary, width)),
        "embeddings.pos_embeddings.weight": rng.normal(size=(length + 3, width)),
    } | norm(rng, "embeddings.norm", width)
    for i in range(depth):
        layer = f"encoder.{i}"
        state |= dense(rng, f"{layer}.causal_stft.projection", window * width, width)
        state |= dense(rng, f"{layer}.ffn.dense1", width, hidden) | dense(rng, f"{layer}.ffn.dense2", hidden, width)
        state |= norm(rng, f"{layer}.norm1", width) | norm(rng, f"{layer}.norm2", width)
    return state if tied else state | {"lm_head.weight": rng.normal(size=(vocabulary, width))}


def check(state, ids, wanted):
    state = {name: array.astype(np.float32) for name, array in state.items()}
    model, params = from_torch(state)
    logits = apply(model, params, ids)
    assert np.abs(logits - wanted).max() <= 5e-5 * np.abs(wanted).max()


def rounded(state):
    """float64 arrays that float32 holds exactly."""
    return {name: array.astype(np.float32).astype(np.float64) for name, array in state.items()}


@pytest.mark.parametrize("length", [1, 2, 7, 21, 257])
@pytest.mark.parametrize("norms", [True, False])
def test_fftnet(length, norms):
    rng = RNG(length)
    state = rounded(random_fftnet(rng, length, width=14, depth=2, hidden=9, vocabulary=37, norms=norms))
    ids = rng.integers(37, size=(3, length))
    wanted, zeroed = fftnet(state, ids, 2, norms)
    assert 0.05 < zeroed < 0.95  # both branches of modReLU are taken
    check(state, ids, wanted)


@pytest.mark.parametrize(
    "length, window, tied",
    [
        (1, 1, False),
        (1, 5, True),
        (9, 16, False),
        (13, 13, True),
        (33, 6, False),
        (257, 8, True),
    ],
)
def test_causal_stft_fnet(length, window, tied):
    rng = RNG(length)
    sizes = {"width": 10, "depth": 2, "hidden": 23, "vocabulary": 31}
    state = rounded(random_stft(rng, length, **sizes, window=window, tied=tied))
    ids = rng.integers(31, size=(2, length))
    check(state, ids, causal_stft_fnet(state, ids, 2, window))
