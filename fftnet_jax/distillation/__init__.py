"""Learning from a teacher: its model, its stored log-probabilities, the loss, and how well answers come out."""

from fftnet_jax.distillation.objective import Distillation, fold, kl_full, kl_top_k
from fftnet_jax.distillation.shard_source import ShardSource
from fftnet_jax.distillation.targets import build_guide
from fftnet_jax.distillation.teachers import load_teacher
from fftnet_jax.distillation.writer import write_shards
from fftnet_jax.models.llama import Teacher
from fftnet_jax.models.llama_config import TeacherConfig

__all__ = [
    "Distillation",
    "ShardSource",
    "Teacher",
    "TeacherConfig",
    "build_guide",
    "fold",
    "kl_full",
    "kl_top_k",
    "load_teacher",
    "write_shards",
]
