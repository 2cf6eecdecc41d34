"""`from_torch` on the goldens, which come from the original code, and on state dicts that are wrong."""

import importlib
import json
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from fftnet_jax import Decoder, Encoder
from fftnet_jax.errors import ConfigError
from fftnet_jax.interop import from_torch
from fftnet_jax.interop.originals import CAUSAL_STFT_FNET, FFTNET

GOLDEN = Path(__file__).parents[1] / "golden"
NAMES = sorted(path.stem for path in GOLDEN.glob("*.npz"))


@partial(jax.jit, static_argnums=0)
def apply(model, params, ids):
    return model.apply({"params": params}, ids)


def golden(name):
    """(state dict, gradients, the rest) of a golden."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        arrays = dict(file)
    state = {key.removeprefix("state/"): value for key, value in arrays.items() if key.startswith("state/")}
    grads = {key.removeprefix("grad/"): value for key, value in arrays.items() if key.startswith("grad/")}
    return state, grads, arrays | {"meta": json.loads(str(arrays["meta"]))}


@pytest.fixture
def fftnet():
    return golden("fftnet_1")[0]


@pytest.fixture
def stft():
    return golden("causal_stft_fnet_0")[0]


def refused(state):
    with pytest.raises(ConfigError) as info:
        from_torch(state)
    assert "\n" not in str(info.value)
    return str(info.value)


def test_goldens_are_all_here():
    assert NAMES == ["causal_stft_fnet_0", "causal_stft_fnet_1", "fftnet_0", "fftnet_1", "fftnet_2"]


def to_torch_names(grads, names):
    """A gradient tree under the original's names and layouts, which come from the mapping's tables."""
    flat = traverse_util.flatten_dict(grads, sep="/")
    out = {}
    for row in FFTNET + CAUSAL_STFT_FNET:
        for layer in map(str, range(4)):
            name, path = row.name.replace("#", layer), (row.path or "").replace("#", layer)
            if name in names and path in flat:
                array = np.asarray(flat[path])
                out[name] = array.T if path.endswith("/kernel") else array
    return out, len(flat)


@pytest.mark.parametrize("name", NAMES)
def test_golden_logits_loss_and_gradients(name):
    state, wanted, rest = golden(name)
    model, params = from_torch(state)

    def loss(params):
        logits = model.apply({"params": params}, rest["ids"])
        log_probs = jax.nn.log_softmax(logits[:, :-1])
        return -jnp.take_along_axis(log_probs, rest["ids"][:, 1:, None].astype(np.int32), axis=-1).mean(), logits

    (value, logits), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    assert logits.shape == rest["logits"].shape
    assert logits.dtype == jnp.float32
    error = np.abs(logits - rest["logits"]).max() / np.abs(rest["logits"]).max()
    print(f"{name}: logits {error:.1e}")
    assert error <= 5e-6
    assert value == pytest.approx(float(rest["loss"]), rel=1e-5)
    found, count = to_torch_names(grads, state)
    assert found.keys() == wanted.keys()
    assert len(found) == count  # every parameter has its gradient compared
    largest = max(np.linalg.norm(grad) for grad in wanted.values())
    worst = 0.0
    for key, grad in wanted.items():
        floor = 1e-6 * largest  # some gradients are zero but for rounding
        error = np.linalg.norm(found[key].reshape(grad.shape) - grad) / (np.linalg.norm(grad) + floor)
        worst = max(worst, error)
        assert error <= 1e-3, key
    print(f"{name}: gradients {worst:.1e}")


@pytest.mark.parametrize("name", NAMES)
def test_sizes_are_found(name):
    state, _, rest = golden(name)
    model, params = from_torch(state)
    meta, config = rest["meta"], model.config
    assert config.vocab_size == meta["vocab_size"]
    if meta["family"] == "fftnet":
        assert type(model) is Encoder
        assert (config.width, config.num_layers) == (meta["d_model"], meta["num_layers"])
        assert (config.filter_width, config.max_length) == (meta["mlp_hidden_dim"], meta["max_seq_length"])
        assert config.final_norm == meta["layer_norm"]
    else:
        assert type(model) is Decoder
        assert (config.width, config.num_layers) == (meta["hidden_size"], meta["num_hidden_layers"])
        assert (config.window, config.ffn_width) == (meta["stft_window_size"], meta["intermediate_size"])
        assert (config.max_length, config.tie_head) == (meta["max_position_embeddings"], meta["tie_word_embeddings"])
    fresh = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 3), jnp.int32))["params"]
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, fresh)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))


def test_absent_head_is_tied(stft):
    del stft["lm_head.weight"]
    model, params = from_torch(stft)
    assert model.config.tie_head
    assert "head" not in params


def test_layer_norm_off_leaves_the_norms_out(fftnet):
    model, params = from_torch(fftnet, layer_norm=False)
    assert not model.config.final_norm
    assert "final_norm" not in params
    assert params["blocks_0"].keys() == {"mixer"}
    without = {name: array for name, array in fftnet.items() if "norm." not in name}
    ids = np.arange(9)[None]
    bare, bare_params = from_torch(without)
    np.testing.assert_array_equal(apply(model, params, ids), apply(bare, bare_params, ids))


def test_layer_norm_on_needs_the_norms():
    state = golden("fftnet_2")[0]
    with pytest.raises(ConfigError, match=r"lacks output_norm\.weight, output_norm\.bias"):
        from_torch(state, layer_norm=True)


def test_unknown_option_is_a_type_error(fftnet, stft):
    with pytest.raises(TypeError, match="num_heads"):
        from_torch(fftnet, num_heads=4)
    with pytest.raises(TypeError, match="layer_norm"):
        from_torch(stft, layer_norm=False)
    assert type(from_torch(stft, layer_norm=True)[0]) is Decoder  # it always normalises


def test_other_array_types(stft):
    ids = np.arange(7)[None]
    model, params = from_torch(stft)
    wanted = apply(model, params, ids)
    for convert in (np.float64, jnp.asarray, lambda array: array.tolist()):
        model, params = from_torch({name: convert(array) for name, array in stft.items()})
        np.testing.assert_array_equal(apply(model, params, ids), wanted)


def test_pos_encoding_is_not_needed(fftnet):
    del fftnet["pos_encoding"]
    model, params = from_torch(fftnet)
    assert apply(model, params, np.arange(5)[None]).shape == (1, 5, 47)


def test_foreign_names():
    message = refused({"transformer.wte.weight": 0, "transformer.h.0.ln_1.bias": 0})
    assert "neither" in message
    assert "transformer.wte.weight" in message
    assert "no names" in refused({})


@pytest.mark.parametrize("name", ["fftnet_1", "causal_stft_fnet_0"])
def test_each_missing_tensor_is_named(name):
    state = golden(name)[0]
    for key in set(state) - {"pos_encoding", "lm_head.weight"}:
        assert key in refused({k: v for k, v in state.items() if k != key})


@pytest.mark.parametrize("name", ["fftnet_1", "fftnet_2", "causal_stft_fnet_0", "causal_stft_fnet_1"])
def test_each_misshapen_tensor_is_named_with_both_shapes(name):
    state = golden(name)[0]
    for key, array in state.items():
        right = str(array.shape).replace(",)", ")")
        for wrong in (array[..., :-1], array[None]):
            message = refused(state | {key: wrong})
            assert message.startswith(key)
            assert str(wrong.shape) in message
            assert right in message or "longest sequence" in message  # a size that no other tensor shows


def test_projection_that_is_no_multiple_of_the_width(stft):
    for layer in range(2):
        stft[f"encoder.{layer}.causal_stft.projection.weight"] = np.zeros((16, 130))
    assert "multiple of 16, got shape (16, 130)" in refused(stft)


def test_missing_layer(fftnet):
    message = refused({name: array for name, array in fftnet.items() if not name.startswith("layers.1.")})
    assert message == "state_dict lacks layer 1; found layers 0, 2"


def test_unexpected_tensors(fftnet, stft):
    assert "unexpected head.extra" in refused(fftnet | {"head.extra": np.zeros(3)})
    assert "unexpected encoder.1.norm3.bias" in refused(stft | {"encoder.1.norm3.bias": np.zeros(16)})
    assert "unexpected embedding.weight" in refused(stft | {"embedding.weight": np.zeros(16)})


def test_not_a_number(stft):
    assert refused(stft | {"embeddings.norm.bias": "x"}).startswith("embeddings.norm.bias must be an array of numbers")


def test_pytorch_is_never_imported(monkeypatch, stft):
    monkeypatch.setitem(sys.modules, "torch", None)  # from here on, importing it fails
    module = importlib.reload(sys.modules["fftnet_jax.interop.originals"])
    module.from_torch(stft)
