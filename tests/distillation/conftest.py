import json

import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import save_file

from fftnet_jax.distillation.load_teacher import _name
from fftnet_jax.distillation.teacher import Teacher
from fftnet_jax.distillation.teacher_config import read_config

CONFIG = {
    "model_type": "qwen2",
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "vocab_size": 260,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}


def write_teacher(folder, seed=0, scale=0.4, dtype=np.float32, **changes):
    """A folder in Hugging Face's format with random weights."""
    import jax
    import jax.numpy as jnp

    config = {**CONFIG, **changes}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    model = Teacher(read_config(config, "config.json"))
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1), jnp.int32))["params"]
    rng = np.random.default_rng(seed)
    tensors = {}
    for path, leaf in flatten_dict(shapes).items():
        array = rng.normal(scale=scale, size=leaf.shape).astype(dtype)
        tensors[_name(path)] = np.ascontiguousarray(array.T if path[-1] == "kernel" else array)
    save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="session")
def teacher_folder(tmp_path_factory):
    """A tiny Qwen2 of 260 tokens, without a tokenizer: it reads bytes. To be read, not changed."""
    return write_teacher(tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="session")
def problems_folder(tmp_path_factory):
    """GSM8K's two files with a few problems made up."""
    folder = tmp_path_factory.mktemp("problems")
    rng = np.random.default_rng(0)
    for name, count in (("train", 44), ("test", 6)):
        rows = []
        for _ in range(count):
            a, b = rng.integers(1, 60, 2)
            answer = f"{a} + {b} = <<{a}+{b}={a + b}>>{a + b}" + " apples." * int(rng.integers(0, 3))
            rows.append({"question": f"{a} and {b}?", "answer": f"{answer}\n#### {a + b}"})
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


STUDENT = """
from fftnet_jax.config import default_config


def get_config():
    config = default_config()
    config.data.source = "gsm8k"
    config.data.folder = {folder!r}
    config.data.num_problems = 32
    config.data.num_validation = 8
    config.data.tokenizer = "byte"
    config.data.length = 64
    config.data.batch_size = 8
    config.model.width = 16
    config.model.num_layers = 1
    config.model.ffn_width = 16
    config.model.filter_modes = 4
    config.training.num_steps = 6
    config.training.eval_every = 3
    config.training.checkpoint_every = 3
    config.training.log_every = 1
    config.training.warmup_steps = 1
    config.training.learning_rate = 0.01
    config.distillation.teacher = {teacher!r}
    config.distillation.teacher_dtype = "float32"
    config.distillation.rows_per_shard = 5
    config.distillation.teacher_batch_size = 4
    config.sample.max_new_tokens = 4
    return config
"""


@pytest.fixture(scope="session")
def student(problems_folder, teacher_folder, tmp_path_factory):
    """An experiment file: a tiny student of the tiny teacher."""
    file = tmp_path_factory.mktemp("student") / "student.py"
    file.write_text(STUDENT.format(folder=str(problems_folder), teacher=str(teacher_folder)))
    return file
