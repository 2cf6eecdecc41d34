"""Learning from a teacher: its model, its stored log-probabilities, the loss, and how well answers come out."""

from fftnet_jax.distillation.guide import build_guide
from fftnet_jax.distillation.load_teacher import load_teacher
from fftnet_jax.distillation.loss import Distillation, fold, kl_full, kl_top_k
from fftnet_jax.distillation.shard_source import ShardSource
from fftnet_jax.distillation.teacher import Teacher
from fftnet_jax.distillation.teacher_config import TeacherConfig
from fftnet_jax.distillation.writer import write_shards

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
