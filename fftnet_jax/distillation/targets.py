"""What stands between a training run and its teacher: the teacher itself, or its shards."""

import dataclasses
import hashlib
import json
from pathlib import Path

import jax.numpy as jnp

from fftnet_jax.config import Config
from fftnet_jax.data import Dataset
from fftnet_jax.distillation.manifest import Settings
from fftnet_jax.distillation.objective import Distillation
from fftnet_jax.distillation.shard_source import ShardSource
from fftnet_jax.distillation.teachers import load_teacher, open_checkpoint
from fftnet_jax.distillation.vocabulary import kept_ids, teacher_features, teacher_head
from fftnet_jax.errors import ConfigError
from fftnet_jax.files import sha256_of
from fftnet_jax.models import Encoder
from fftnet_jax.tasks.sums import objective_sums
from fftnet_jax.tasks.tokens import TokenTask


class Guide(TokenTask):
    """The task of a student: predicting tokens, and its teacher's distributions.

    Attributes:
      dataset: what to train on.
      objective: of `ops.linear_sums`.
    """

    averages = ("loss", "cross_entropy", "kl")
    dataset: Dataset
    objective: Distillation

    def loss(self, model: Encoder, params: dict, batch: dict, arrays: dict | None = None, **options) -> dict:
        rows, whole = self.read(arrays, batch)
        rows = {**rows, "targets": batch["targets"]}
        return objective_sums(self.objective, model, params, batch, rows, whole, **options)

    def read(self, arrays: dict | None, batch: dict) -> tuple[dict, dict]:
        """(arrays by row, arrays for all rows) of the teacher for a batch; see `objective.Distillation`."""
        raise NotImplementedError


class TeacherGuide(Guide):
    """The teacher runs inside the train step, outside the gradient; its parameters are among `arrays`."""

    def __init__(self, config: Config, dataset: Dataset):
        d = config.distillation
        self.dataset = dataset
        self.model, params, tokenizer = load_teacher(d.teacher, d.teacher_dtype)
        kept = kept_ids(self.model, tokenizer, dataset)
        self.arrays = {"params": params} | ({} if kept is None else {"kept": jnp.asarray(kept)})
        axis = self.model.head_weights(params)[2]
        self.objective = Distillation(d.alpha, d.temperature, axis)

    def read(self, arrays, batch):
        params, kept_K = arrays["params"], arrays.get("kept")
        features_BND = teacher_features(self.model, params, batch["inputs"], kept_K)
        whole = teacher_head(self.model, params, self.dataset.vocab_size, kept_K)
        return {"teacher_features": features_BND}, whole


class ShardGuide(Guide):
    """The teacher's log-probabilities come with the batches."""

    def __init__(self, config: Config, dataset: Dataset):
        d = config.distillation
        source = ShardSource(dataset.train, Path(d.shards), shard_settings(config, dataset, ""), d.temperature)
        digest = hashlib.sha256(f"{dataset.fingerprint} {source.manifest.settings}".encode()).hexdigest()
        self.dataset = dataclasses.replace(dataset, train=source, fingerprint=digest)
        self.objective = Distillation(d.alpha, d.temperature)

    def read(self, arrays, batch):
        return {name: array for name, array in batch.items() if name.startswith("teacher_")}, {}


def build_guide(config: Config, dataset: Dataset) -> Guide | None:
    """The guide that `distillation` in the configuration asks for, None where nothing but the text teaches.

    Raises:
      ConfigError: no teacher or shards there, or of another vocabulary or other data.
    """
    if not config.distillation.active:
        return None
    return ShardGuide(config, dataset) if config.distillation.shards else TeacherGuide(config, dataset)


def shard_settings(config: Config, dataset: Dataset, teacher: str) -> Settings:
    """What shards for this configuration depend on; `teacher` is the fingerprint of its files."""
    d = config.distillation
    if not hasattr(dataset.train, "lengths"):
        raise ConfigError("distillation.shards need a data set of separate problems: data.source must be 'gsm8k'")
    return Settings(
        teacher=teacher,
        data=dataset.fingerprint,
        tokenizer=hashlib.sha256(json.dumps(dataset.tokenizer.to_dict(), sort_keys=True).encode()).hexdigest(),
        dtype=d.teacher_dtype,
        vocab_size=dataset.vocab_size,
        length=config.data.length,
        rows=len(dataset.train),
        rows_per_shard=d.rows_per_shard,
        top_k=min(d.top_k, dataset.vocab_size),
        temperature=d.temperature,
    )


def teacher_fingerprint(source: str) -> str:
    """SHA-256 of a teacher's configuration and weights."""
    path = open_checkpoint(source).path
    files = [path] if path.is_file() else [path / "config.json", *sorted(path.glob("*.safetensors"))]
    return hashlib.sha256("".join(sha256_of(file) for file in files).encode()).hexdigest()
