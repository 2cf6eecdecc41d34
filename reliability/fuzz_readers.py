"""The readers that `reliability.fuzz` feeds with damaged files: a small sound folder for each, and the call.

A reader is `(make, read)`: `make(folder)` fills an empty folder with sound files, `read(folder)` reads them all.
"""

import json
import shutil
from pathlib import Path

import gguf
import numpy as np
import orbax.checkpoint as ocp
from safetensors.numpy import save_file

from fftnet_jax import tokenizers
from fftnet_jax.config import Config, DataConfig, to_dict
from fftnet_jax.distillation import load_teacher
from fftnet_jax.distillation.manifest import Manifest, Settings, Shard, shard_name
from fftnet_jax.distillation.shard_source import ShardSource
from fftnet_jax.files import sha256_of
from fftnet_jax.runs.checkpoints import damaged_steps, read_params
from fftnet_jax.runs.folder import RunFolder
from fftnet_jax.runs.seal import NAME, seal
from fftnet_jax.tasks import load_dataset
from fftnet_jax.tokenizers.reduced import ReducedTokenizer

ROOT = Path(__file__).resolve().parents[1]
WIDTH, HEADS, FFN, VOCABULARY = 32, 2, 32, 24
ROWS = 6  # of the shards
PROBLEMS = [{"question": f"{n} and {n}?", "answer": f"<<{n}+{n}={2 * n}>>{2 * n}\n#### {2 * n}"} for n in range(1, 7)]


def make_gguf(folder: Path) -> None:
    tokens = ["<|end|>", *"abcdefghij", "ab", "cd", "abcd", "Ġ", "é"]
    tokens += [f"t{n}" for n in range(VOCABULARY - len(tokens))]
    writer = gguf.GGUFWriter(folder / "model.gguf", "llama")
    sizes = {"context_length": 64, "embedding_length": WIDTH, "block_count": 1, "feed_forward_length": FFN}
    for name, value in {**sizes, "attention.head_count": HEADS, "attention.head_count_kv": 1}.items():
        writer.add_uint32(f"llama.{name}", value)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_string("tokenizer.ggml.model", "gpt2")
    writer.add_string("tokenizer.ggml.pre", "smollm")
    writer.add_array("tokenizer.ggml.tokens", tokens)
    writer.add_array("tokenizer.ggml.merges", ["a b", "c d", "ab cd"])
    writer.add_array("tokenizer.ggml.token_type", [3, *[1] * (VOCABULARY - 1)])
    writer.add_uint32("tokenizer.ggml.eos_token_id", 0)
    shapes = {"token_embd": (VOCABULARY, WIDTH), "output_norm": (WIDTH,)}
    layer = {"attn_norm": (WIDTH,), "ffn_norm": (WIDTH,), "attn_q": (WIDTH, WIDTH), "attn_k": (16, WIDTH)}
    layer |= {"attn_v": (16, WIDTH), "attn_output": (WIDTH, WIDTH)}
    layer |= {"ffn_gate": (FFN, WIDTH), "ffn_up": (FFN, WIDTH), "ffn_down": (WIDTH, FFN)}
    for name, shape in {**shapes, **{f"blk.0.{name}": shape for name, shape in layer.items()}}.items():
        array = np.zeros(shape, np.float32)
        kind = gguf.GGMLQuantizationType.Q8_0 if len(shape) > 1 else None
        writer.add_tensor(f"{name}.weight", gguf.quantize(array, kind) if kind else array, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_gguf(folder: Path) -> None:
    _, _, tokenizer = load_teacher(folder / "model.gguf")
    if tokenizer:
        tokenizer.decode(tokenizer.encode("abcd é")[:8])


def make_hf(folder: Path) -> None:
    config = {"model_type": "qwen2", "hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2}
    config |= {"num_key_value_heads": 1, "num_hidden_layers": 1, "vocab_size": 12, "rms_norm_eps": 1e-6}
    config |= {"max_position_embeddings": 32, "rope_theta": 1e4, "tie_word_embeddings": True, "eos_token_id": [1]}
    (folder / "config.json").write_text(json.dumps(config))
    shapes = {"self_attn.q_proj.weight": (8, 8), "self_attn.q_proj.bias": (8,), "self_attn.o_proj.weight": (8, 8)}
    for part in ("k", "v"):
        shapes |= {f"self_attn.{part}_proj.weight": (4, 8), f"self_attn.{part}_proj.bias": (4,)}
    shapes |= {f"mlp.{part}_proj.weight": (8, 8) for part in ("gate", "up", "down")}
    shapes |= {f"{norm}_layernorm.weight": (8,) for norm in ("input", "post_attention")}
    arrays = {f"model.layers.0.{name}": np.zeros(shape, np.float32) for name, shape in shapes.items()}
    top = {"model.embed_tokens.weight": np.zeros((12, 8), np.float16), "model.norm.weight": np.zeros(8, np.float32)}
    save_file(arrays, folder / "a.safetensors")
    save_file(top, folder / "b.safetensors")
    places = dict.fromkeys(arrays, "a.safetensors") | dict.fromkeys(top, "b.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))


def read_hf(folder: Path) -> None:
    load_teacher(folder)


def _settings():
    return Settings("t", "d", "k", "float32", 20, 8, ROWS, 2, 3, 2.0)


def make_shards(folder: Path) -> None:
    settings, shards = _settings(), []
    record = Manifest(settings).record
    for index in range(ROWS // 2):
        file = folder / shard_name(index)
        file.write_bytes(np.zeros(8, record).tobytes())
        shards.append(Shard(file.name, 2 * index, (4, 4), sha256_of(file)))
    Manifest(settings, tuple(shards)).write(folder)


def read_shards(folder: Path) -> None:
    ShardSource(_Rows(), folder, _settings(), 2.0).batch(np.arange(ROWS)).clear()


class _Rows:
    """A source of the rows that the shards belong to."""

    lengths = np.full(ROWS, 4)

    def __len__(self):
        return ROWS

    def batch(self, indices, rng=None):
        return {"inputs": np.zeros((len(indices), 8), np.int32)}


def make_problems(folder: Path) -> None:
    for name in ("train", "test"):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(problem) + "\n" for problem in PROBLEMS))


def read_problems(folder: Path) -> None:
    sizes = {"num_problems": 2, "num_validation": 1, "length": 16, "batch_size": 2}
    load_dataset(DataConfig(source="gsm8k", folder=str(folder), tokenizer="byte", **sizes), "decoder", 0)


def make_text(folder: Path) -> None:
    (folder / "text.txt").write_text("the cat sat on a mat; é ü and saw two rats.\n" * 12, encoding="utf-8")


def read_text(folder: Path) -> None:
    load_dataset(DataConfig(text_file=str(folder / "text.txt"), length=8, batch_size=2), "decoder", 0)


def make_run(folder: Path) -> None:
    values = to_dict(Config())
    values["model"] |= {"vocab_size": 4, "width": 4, "num_layers": 1, "max_length": 8}
    (folder / "config.json").write_text(json.dumps({**values, "data_fingerprint": "f"}))
    reduced = ReducedTokenizer.from_ids(tokenizers.ByteTokenizer(), np.array([97, 98, 99]))
    tokenizers.save(reduced, folder)
    rows = [{"step": step, "train/loss": 2.5, "val/loss": None} for step in range(4)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    step = folder / "checkpoints" / "3"
    (step / "params").mkdir(parents=True)
    (step / "params" / "array").write_bytes(bytes(range(64)))
    (step / "metrics").mkdir()
    (step / "metrics" / "metrics").write_text('{"val/loss": 2.0}')
    seal(step)


def read_run(folder: Path) -> None:
    run = RunFolder(folder)
    damaged_steps(folder / "checkpoints")
    run.keep_metrics_until(2)
    tokenizers.load(folder).decode([0, 1])
    run.load_config()


def make_checkpoint(folder: Path) -> None:
    """Sealed anew after each damage, so that Orbax and its stores meet it."""
    step = folder / "checkpoints" / "3"
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save((step / "params").resolve(), _params())
    (step / "metrics").mkdir()
    (step / "metrics" / "metrics").write_text('{"val/loss": 2.0}')
    seal(step)


def _params():
    return {"a": np.zeros((3, 4), np.float32), "b": {"c": np.ones(5, np.float32)}}


def read_checkpoint(folder: Path) -> None:
    step = folder / "checkpoints" / "3"
    (step / NAME).unlink(missing_ok=True)
    seal(step)
    read_params(folder / "checkpoints", _params())


READERS = {
    "gguf": (make_gguf, read_gguf),
    "hf": (make_hf, read_hf),
    "shards": (make_shards, read_shards),
    "problems": (make_problems, read_problems),
    "text": (make_text, read_text),
    "run": (make_run, read_run),
    "checkpoint": (make_checkpoint, read_checkpoint),
}


def copy(sound: Path, folder: Path) -> None:
    """`folder` as `sound` is."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(sound, folder)
