"""The train steps of the experiments, for shapes: without their data, tokenizers and teachers."""

import contextlib
import dataclasses
import io
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks.ahead import Work
from benchmarks.roofline import attention_flops, dense_flops
from fftnet_jax.config import Config, load_config
from fftnet_jax.data import Dataset
from fftnet_jax.distillation.objective import Distillation
from fftnet_jax.distillation.targets import Guide, ShardGuide, TeacherGuide
from fftnet_jax.models.llama import Teacher
from fftnet_jax.models.llama_config import read_config
from fftnet_jax.ops.tpu import cross_entropy
from fftnet_jax.parallel.mesh import batch_sharding
from fftnet_jax.runs.opening import resolve_sizes
from fftnet_jax.tasks import task_for
from fftnet_jax.training.setup import assemble, resolve
from fftnet_jax.training.state import state_shapes

VOCABULARIES = {  # tokens, as the data of each experiment give them
    "gsm8k_ablation": 13_737,
    "gsm8k_distill_qwen2": 151_646,
    "gsm8k_distill_smollm2": 13_737,
    "gsm8k_scratch": 50_257,
    "recall": 32,
    "shakespeare": 68,
    "shakespeare_bpe": 100_277,
    "shakespeare_fftnet_original": 100_278,  # and the mask
    "shakespeare_stft": 68,
    "tinyshakespeare_char": 65,
}
TEACHERS = {
    "Qwen/Qwen2-0.5B-Instruct": {
        "model_type": "qwen2",
        "vocab_size": 151_936,
        "hidden_size": 896,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "intermediate_size": 4864,
        "max_position_embeddings": 32_768,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1_000_000.0,
        "tie_word_embeddings": True,
    }
}
ROWS = 10_000  # of training data, on which only the learning rate's schedule depends


class ShapedTeacher(TeacherGuide):
    """A teacher of which there are only shapes."""

    def __init__(self, config: Config, dataset: Dataset):
        d, self.dataset = config.distillation, dataset
        values = read_config(TEACHERS[d.teacher], d.teacher)
        self.model = Teacher(dataclasses.replace(values, dtype=d.teacher_dtype))
        shapes = jax.eval_shape(self.model.init, jax.random.key(0), jnp.zeros((1, 1), jnp.int32))["params"]
        self.arrays = {"params": shapes}
        self.objective = Distillation(d.alpha, d.temperature, self.model.head_weights(shapes)[2])


class ShapedShards(ShardGuide):
    """Shards of which there are only shapes."""

    def __init__(self, config: Config, dataset: Dataset):
        self.dataset, self.objective = dataset, Distillation(config.distillation.alpha, config.distillation.temperature)


def experiment(file: Path) -> Config:
    """An experiment's configuration with its vocabulary."""
    with contextlib.redirect_stderr(io.StringIO()):  # one looks for tokens, and says which it found
        config = load_config(str(file))
    return dataclasses.replace(resolve_sizes(config, VOCABULARIES[file.stem]), mesh=Config().mesh)


def train_step(config: Config, mesh: Mesh) -> Work:
    """A train step as `train.py` runs it: reads and writes parameters and optimiser, reads batch and teacher."""
    dataset = Dataset(range(ROWS), range(1), range(1), False, None, config.model.vocab_size, None, "")
    config, task = resolve(config, dataset), task_for(config.data, config.model.family)
    trained = _guide(config, dataset) or task
    setup = assemble(config, task, trained, dataset, mesh)
    state = state_shapes(setup.model, setup.optimizer, config.seed, mesh)
    batch = {
        name: jax.ShapeDtypeStruct(shape, kind, sharding=batch_sharding(mesh, len(shape)))
        for name, (shape, kind) in _batch(config).items()
    }
    whole = NamedSharding(mesh, PartitionSpec())
    arrays = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=whole), trained.arrays)
    flops = _flops(config, state.params, trained)
    rows = config.data.batch_size * config.data.length // config.training.accumulation  # those of the head's loop
    return Work(setup.train_step, (state, batch, arrays), flops, turns=-(-rows // cross_entropy.ROWS))


def _guide(config: Config, dataset: Dataset) -> Guide | None:
    if not config.distillation.active:
        return None
    return (ShapedShards if config.distillation.shards else ShapedTeacher)(config, dataset)


def _batch(config: Config) -> dict:
    """Shapes and dtypes of a batch; from shards with what they keep of the teacher."""
    shape, d = (config.data.batch_size, config.data.length), config.distillation
    found = {"inputs": (shape, jnp.int32), "targets": (shape, jnp.int32), "weights": (shape, jnp.float32)}
    if d.active and d.shards:
        top = (*shape, min(d.top_k, config.model.vocab_size))
        found |= {"teacher_ids": (top, jnp.int32), "teacher_logps": (top, jnp.float32)}
        found["teacher_tail"] = (shape, jnp.float32)
    return found


def _flops(config: Config, params: dict, trained) -> float:
    """The least of a step: three times a forward pass of the dense products and attention, and the teacher's once."""
    m = config.model
    attention = m.mixers.count("attention") * attention_flops(config.data.length, m.width)
    each = 3 * (dense_flops(params, m.tie_head) + attention)
    if trained.arrays:
        each += dense_flops(trained.arrays["params"], trained.model.config.tie_head)
    return each * config.data.batch_size * config.data.length
