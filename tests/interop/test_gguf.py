import time

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fftnet_jax.errors import ConfigError
from fftnet_jax.interop.gguf_checkpoint import GGUFCheckpoint
from fftnet_jax.interop.smollm2 import smollm2_path
from fftnet_jax.tokenizers import get_tokenizer

WIDTH, HEADS, KV_HEADS, FFN, VOCABULARY = 64, 4, 2, 96, 40
HEAD = WIDTH // HEADS
SHAPES = {  # in Hugging Face's order
    "token_embd.weight": (VOCABULARY, WIDTH),
    "output_norm.weight": (WIDTH,),
    "blk.0.attn_norm.weight": (WIDTH,),
    "blk.0.ffn_norm.weight": (WIDTH,),
    "blk.0.attn_q.weight": (WIDTH, WIDTH),
    "blk.0.attn_k.weight": (KV_HEADS * HEAD, WIDTH),
    "blk.0.attn_v.weight": (KV_HEADS * HEAD, WIDTH),
    "blk.0.attn_output.weight": (WIDTH, WIDTH),
    "blk.0.ffn_gate.weight": (FFN, WIDTH),
    "blk.0.ffn_up.weight": (FFN, WIDTH),
    "blk.0.ffn_down.weight": (WIDTH, FFN),
}
BIASES = {"blk.0.attn_q.bias": (WIDTH,), "blk.0.attn_k.bias": (KV_HEADS * HEAD,), "blk.0.attn_v.bias": (32,)}
LAYER = "model.layers.0."


def refused(call, *args):
    """The message of the ConfigError that the call must raise: one line."""
    with pytest.raises(ConfigError) as info:
        call(*args)
    assert "\n" not in str(info.value)
    return str(info.value)


def values(name, shape):
    return np.random.default_rng(len(name)).normal(size=shape).astype(np.float32)


def write(path, arch="llama", kind=Kind.F32, shapes=SHAPES, change=None, extra=None, tensors=None):
    """A GGUF file of a tiny model; `change` maps keys to other values, None for none. Gives its arrays by name."""
    writer = gguf.GGUFWriter(path, arch)
    sizes = {
        "context_length": 512,
        "embedding_length": WIDTH,
        "block_count": 1,
        "feed_forward_length": FFN,
        "attention.head_count": HEADS,
        "attention.head_count_kv": KV_HEADS,
    }
    reals = {"attention.layer_norm_rms_epsilon": 1e-5, "rope.freq_base": 1e5}
    for name, value in ({**sizes, **reals, **(change or {})}).items():
        if isinstance(value, str):
            writer.add_string(f"{arch}.{name}", value)
        elif isinstance(value, list):
            writer.add_array(f"{arch}.{name}", value)
        elif value is not None:
            (writer.add_float32 if isinstance(value, float) else writer.add_uint32)(f"{arch}.{name}", value)
    for name, value in (extra or {}).items():
        writer.add_uint32(name, value)
    arrays = {name: values(name, shape) for name, shape in shapes.items()} | (tensors or {})
    for name, array in arrays.items():
        if array.ndim > 1 and kind != Kind.F32:
            writer.add_tensor(name, gguf.quantize(array, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return arrays


def permuted(array, num_heads):
    """Hugging Face's rows as llama.cpp's convert_hf_to_gguf.py stores them."""
    halves = array.reshape(num_heads, 2, len(array) // num_heads // 2, *array.shape[1:])
    return halves.swapaxes(1, 2).reshape(array.shape)


def test_config_names_and_shapes(tmp_path):
    write(tmp_path / "a.gguf", extra={"tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2})
    checkpoint = GGUFCheckpoint(tmp_path / "a.gguf")
    assert checkpoint.config == {
        "model_type": "llama",
        "hidden_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "intermediate_size": 96,
        "rms_norm_eps": 1e-5,
        "rope_theta": 100_000.0,
        "rope_scaling": None,
        "partial_rotary_factor": 1.0,
        "vocab_size": 40,
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "max_position_embeddings": 512,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    ends = ["q_proj", "k_proj", "v_proj", "o_proj"]
    names = {f"{LAYER}self_attn.{end}.weight" for end in ends} | {"model.embed_tokens.weight", "model.norm.weight"}
    names |= {f"{LAYER}{norm}_layernorm.weight" for norm in ("input", "post_attention")}
    assert checkpoint.names() == names | {f"{LAYER}mlp.{part}_proj.weight" for part in ("gate", "up", "down")}
    assert checkpoint.shape(f"{LAYER}mlp.down_proj.weight") == (64, 96)
    assert checkpoint.shape("model.norm.weight") == (64,)
    assert checkpoint.tokenizer is None and checkpoint.path == tmp_path / "a.gguf"


@pytest.mark.parametrize("arch", ("llama", "qwen2"))
def test_rows_of_queries_and_keys(arch, tmp_path):
    """Llama's are permuted in the file, keys by their own number of heads; Qwen2's are not."""
    hf = {name: values(name, shape) for name, shape in (SHAPES | BIASES).items()}
    heads = {"blk.0.attn_q": HEADS, "blk.0.attn_k": KV_HEADS} if arch == "llama" else {}
    stored = {
        name: permuted(array, heads[name.rpartition(".")[0]]) if name.rpartition(".")[0] in heads else array
        for name, array in hf.items()
    }
    write(tmp_path / "a.gguf", arch, shapes={}, tensors=stored)
    checkpoint = GGUFCheckpoint(tmp_path / "a.gguf")
    assert checkpoint.config["model_type"] == arch and checkpoint.config["attention_bias"] == (arch == "llama")
    for ours, theirs in {"attn_q": "q_proj", "attn_k": "k_proj", "attn_v": "v_proj"}.items():
        for end in ("weight", "bias"):
            array = checkpoint.read(f"{LAYER}self_attn.{theirs}.{end}")
            np.testing.assert_array_equal(array, hf[f"blk.0.{ours}.{end}"])
    np.testing.assert_array_equal(checkpoint.read(f"{LAYER}self_attn.o_proj.weight"), hf["blk.0.attn_output.weight"])


@pytest.mark.parametrize(
    "kind, error",
    [
        ("F32", 0),
        ("F16", 1e-3),
        ("BF16", 1e-2),
        ("Q8_0", 0.01),
        ("Q5_0", 0.07),
        ("Q5_1", 0.05),
        ("Q4_0", 0.14),
        ("Q4_1", 0.1),
    ],
)
def test_kinds(kind, error, tmp_path):
    arrays = write(tmp_path / "a.gguf", "qwen2", Kind[kind], SHAPES | {"output.weight": (VOCABULARY, WIDTH)})
    checkpoint = GGUFCheckpoint(tmp_path / "a.gguf")
    assert not checkpoint.config["tie_word_embeddings"]
    for name, array in (("lm_head.weight", "output.weight"), (f"{LAYER}mlp.down_proj.weight", "blk.0.ffn_down.weight")):
        read = checkpoint.read(name)
        assert read.dtype == np.float32 and read.shape == checkpoint.shape(name) == arrays[array].shape
        assert np.abs(read - arrays[array]).max() <= error * np.abs(arrays[array]).max()
        assert error == 0 or not np.array_equal(read, arrays[array])


def test_kinds_of_256(tmp_path):
    """K-quants of one block per row: its scale, that of 6 bits and the weights, all ones."""
    q6 = np.zeros((2, 210), np.uint8)
    q6[:, :192] = 0xFF  # weights 63 - 32
    q6[1, 192:208] = 2  # scales of 16 weights
    q6[:, 208:] = np.array([0.5], np.float16).view(np.uint8)
    writer_tensors = {"token_embd.weight": (q6, Kind.Q6_K)}
    for name, kind, quants in (
        ("output.weight", Kind.Q4_K, 128),
        ("blk.0.ffn_up.weight", Kind.Q5_K, 160),
    ):
        block = np.zeros((2, 16 + quants), np.uint8)
        block[:, :2] = np.array([0.25], np.float16).view(np.uint8)
        block[1, 4:8] = 3  # scales of the first 4 × 32 weights
        block[:, 16:] = 0xFF
        writer_tensors[name] = (block, kind)
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    for name, value in {
        "block_count": 1,
        "embedding_length": 256,
        "feed_forward_length": 2,
        "context_length": 8,
    }.items():
        writer.add_uint32(f"llama.{name}", value)
    writer.add_head_count(2)
    writer.add_layer_norm_rms_eps(1e-5)
    for name, (data, kind) in writer_tensors.items():
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    checkpoint = GGUFCheckpoint(tmp_path / "a.gguf")
    read = checkpoint.read("model.embed_tokens.weight")
    assert read.shape == (2, 256) and (read[0] == 0).all() and (read[1] == 0.5 * 2 * 31).all()
    for name, largest in (("lm_head.weight", 15), (f"{LAYER}mlp.up_proj.weight", 31)):
        read = checkpoint.read(name)
        assert (read[0] == 0).all() and (read[1, :128] == 0.25 * 3 * largest).all() and (read[1, 128:] == 0).all()
    assert checkpoint.config["num_key_value_heads"] == 2 and checkpoint.config["rope_theta"] == 10_000


def test_rope_scaling(tmp_path):
    write(tmp_path / "a.gguf", change={"rope.scaling.type": "linear", "rope.scaling.factor": 4.0})
    assert GGUFCheckpoint(tmp_path / "a.gguf").config["rope_scaling"] == {"rope_type": "linear", "factor": 4.0}
    write(tmp_path / "a.gguf", change={"rope.scaling.type": "yarn"})
    assert "llama.rope.scaling.type must be one of none, linear, got 'yarn'" in refused(
        GGUFCheckpoint, tmp_path / "a.gguf"
    )


def llama3_factors(factor, half=HEAD // 2, base=1e5):
    """As convert_hf_to_gguf.py writes them."""
    factors = []
    for k in range(half):
        wavelength = 2 * np.pi * base ** (k / half)
        smooth = min(max((8192 / wavelength - 1) / (4 - 1), 0), 1)
        factors.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(factors, np.float32)


def test_llama3_scaling(tmp_path):
    path = tmp_path / "a.gguf"
    write(path, tensors={"rope_freqs.weight": llama3_factors(32.0)})
    checkpoint = GGUFCheckpoint(path)
    assert checkpoint.config["rope_scaling"] == {
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    assert not any("rope" in name for name in checkpoint.names())
    for factors in (llama3_factors(32.0)[1:], llama3_factors(32.0) * 1.1, np.zeros(8, np.float32)):
        write(path, tensors={"rope_freqs.weight": factors})
        assert "rope_freqs.weight must hold the factors of Llama 3 for 8" in refused(GGUFCheckpoint, path)


@pytest.mark.parametrize(
    "change, wanted",
    [
        ({"embedding_length": None}, "llama.embedding_length must be a whole number of at least 1, and is missing"),
        ({"block_count": 0}, "llama.block_count must be a whole number of at least 1, got '0'"),
        ({"attention.head_count": 4.5}, "llama.attention.head_count"),
        (
            {"attention.head_count_kv": [2, 1]},
            "llama.attention.head_count_kv must be a whole number of at least 1, got '[2 1]'",
        ),
        ({"attention.layer_norm_rms_epsilon": None}, "layer_norm_rms_epsilon must be a number above 0, and is missing"),
        ({"rope.freq_base": float("nan")}, "llama.rope.freq_base must be a number above 0, got 'nan'"),
        ({"attention.value_length": 8}, "llama.attention.value_length must be attention.key_length (16), got '8'"),
        ({"attention.head_count": 65}, "llama.attention.key_length"),
        ({"expert_count": 8}, "llama.expert_count must be 0: mixtures of experts are not supported, got '8'"),
    ],
)
def test_metadata_that_is_refused(change, wanted, tmp_path):
    write(tmp_path / "a.gguf", change=change)
    message = refused(GGUFCheckpoint, tmp_path / "a.gguf")
    assert wanted in message and str(tmp_path / "a.gguf") in message


def test_models_that_are_refused(tmp_path):
    path = tmp_path / "a.gguf"
    write(path, "gemma2")
    assert "general.architecture must be one of llama, qwen2, got 'gemma2'" in refused(GGUFCheckpoint, path)
    write(path, tensors={"blk.0.attn_q_norm.weight": np.ones(16, np.float32)})
    assert "'blk.0.attn_q_norm.weight' has no place" in refused(GGUFCheckpoint, path)
    write(path, tensors={"blk.x.attn_q.weight": np.ones(16, np.float32)})
    assert "'blk.x.attn_q.weight' has no place" in refused(GGUFCheckpoint, path)
    write(path, tensors={"output.weight": np.ones((2, 2), np.float64)})
    assert "'output.weight' must be one of F32, F16" in (message := refused(GGUFCheckpoint, path)) and "F64" in message
    write(path, shapes={name: shape for name, shape in SHAPES.items() if "embd" not in name})
    assert "'token_embd.weight' is missing" in refused(GGUFCheckpoint, path)


def test_files_cut_short(tmp_path):
    write(tmp_path / "a.gguf")
    content = (tmp_path / "a.gguf").read_bytes()
    (tmp_path / "b.gguf").write_bytes(content[:-100])
    message = refused(GGUFCheckpoint, tmp_path / "b.gguf")
    assert "cut short" in message and f"the file at {len(content) - 100}" in message and "fetch it again" in message
    (tmp_path / "b.gguf").write_bytes(content[:300])
    assert "cut short" in refused(GGUFCheckpoint, tmp_path / "b.gguf")


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_is_one_line(data, tmp_path):
    if not (tmp_path / "a.gguf").is_file():
        write(tmp_path / "a.gguf")
    content = bytearray((tmp_path / "a.gguf").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, 1500))] = data.draw(st.integers(0, 255))
    (tmp_path / "b.gguf").write_bytes(content)
    try:
        checkpoint = GGUFCheckpoint(tmp_path / "b.gguf")
        shapes = [checkpoint.shape(name) for name in checkpoint.names()]
        assert all(shapes)
    except ConfigError as error:
        assert "\n" not in str(error)


def test_smollm2():
    try:
        path = smollm2_path()
    except ConfigError as error:
        pytest.skip(str(error))
    start = time.perf_counter()
    checkpoint = GGUFCheckpoint(path)
    assert sum(checkpoint.read(name).size for name in checkpoint.names()) == 134_515_008
    assert time.perf_counter() - start < 20  # alone 0.8 s
    config = checkpoint.config
    assert (config["num_hidden_layers"], config["hidden_size"], config["head_dim"]) == (30, 576, 64)
    assert (config["num_attention_heads"], config["num_key_value_heads"], config["intermediate_size"]) == (9, 3, 1536)
    assert (config["rope_theta"], config["rms_norm_eps"], config["vocab_size"]) == (1e5, 1e-5, 49152)
    assert config["tie_word_embeddings"] and get_tokenizer(checkpoint.tokenizer).encode("Hello world!") == [
        19556,
        905,
        17,
    ]
