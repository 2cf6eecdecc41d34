"""Whom to learn from."""

from dataclasses import dataclass

from fftnet_jax.config.fields import DATA, Section, knob


@dataclass(frozen=True)
class DistillationConfig(Section):
    """Whom a student learns from, beside the text; see `fftnet_jax.distillation`."""

    prefix = "distillation."
    resume = DATA

    teacher: str = knob("", "folder, GGUF file, smollm2, or OWNER/MODEL on the Hugging Face hub; empty for none")
    teacher_dtype: str = knob("bfloat16", "of the teacher's weights and products", choices=("float32", "bfloat16"))
    shards: str = knob("", "folder of the teacher's stored log-probabilities; empty runs the teacher in every step")
    alpha: float = knob(0.5, "share of the cross-entropy; the rest is the divergence", minimum=0, maximum=1)
    temperature: float = knob(2.0, "T of the divergence, which is multiplied by T²", above=0)
    top_k: int = knob(64, "shards: log-probabilities kept per token; 0 keeps all", minimum=0)
    rows_per_shard: int = knob(64, "shards: rows in a file", minimum=1)
    teacher_batch_size: int = knob(16, "shards: rows that the teacher reads at a time", minimum=1)

    @property
    def active(self) -> bool:
        """Whether a teacher has any say."""
        return bool(self.teacher or self.shards) and self.alpha < 1
