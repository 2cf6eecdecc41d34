"""Training rows with the teacher's distributions beside them, from shards."""

import os
from pathlib import Path

import numpy as np

from fftnet_jax.data.windows import Source
from fftnet_jax.distillation.manifest import Manifest, Settings, check_same, read_manifest
from fftnet_jax.errors import ConfigError
from fftnet_jax.files import sha256_of


class ShardSource(Source):
    """`source` with what the shards in `folder` keep of its tokens, for `objective.Distillation`.

    A batch has "teacher_ids" int32 and "teacher_logps" float32 (B, N, k) and "teacher_tail" float32 (B, N), at
    `temperature`; from shards with k = 0 "teacher_logits" float32 (B, N, V). Only the rows asked for are read, so that
    memory does not grow with the shards. Masked positions hold zeros.

    Raises:
      ConfigError: there are no shards, not all, damaged ones, or ones of other data, tokenizer or temperature.
    """

    def __init__(self, source: Source, folder: Path, wanted: Settings, temperature: float):
        self.source, self.folder, self.temperature = source, Path(folder), temperature
        self.manifest = _checked(self.folder, wanted, temperature)
        self._check_rows()
        self._files = [os.open(self.folder / shard.file, os.O_RDONLY) for shard in self.manifest.shards]
        self._start_R = np.concatenate([np.cumsum(shard.tokens) - shard.tokens for shard in self.manifest.shards])

    def __len__(self) -> int:
        return len(self.source)

    @property
    def lengths(self) -> np.ndarray:
        return self.source.lengths

    def batch(self, indices, rng=None):
        batch = self.source.batch(indices, rng)
        records_BN = np.zeros(batch["inputs"].shape, self.manifest.record)
        for row, index in zip(records_BN, indices, strict=True):
            row[: self.lengths[index]] = self._row(int(index))
        return {**batch, **self._at_temperature(records_BN)}

    def _check_rows(self) -> None:
        """The manifest says where each row's records lie: it must be of these rows, and of these files."""
        shards, size = self.manifest.shards, self.manifest.record.itemsize
        for number, shard in enumerate(shards):
            start = number * self.manifest.settings.rows_per_shard
            lengths = self.lengths[start : start + self.manifest.settings.rows_per_shard]
            held = (self.folder / shard.file).stat().st_size
            if list(shard.tokens) != list(lengths) or held != sum(shard.tokens) * size:
                raise ConfigError(
                    f"distillation.shards {self.folder}: {shard.file} does not hold the rows that the manifest and "
                    f"the data say; write the shards again"
                )

    def _row(self, index: int) -> np.ndarray:
        size = self.manifest.record.itemsize
        file = self._files[index // self.manifest.settings.rows_per_shard]
        data = os.pread(file, int(self.lengths[index]) * size, int(self._start_R[index]) * size)
        return np.frombuffer(data, self.manifest.record)

    def _at_temperature(self, records_BN: np.ndarray) -> dict[str, np.ndarray]:
        logps = np.ascontiguousarray(records_BN["logps"])
        if not self.manifest.settings.top_k:
            return {"teacher_logits": logps}
        norm_BN, tail_BN = records_BN["norm"], records_BN["tail"]
        if self.temperature != self.manifest.settings.temperature:  # 1, which the log-probabilities determine
            norm_BN = np.zeros_like(norm_BN)
            rest_BN = 1 - np.exp(logps.astype(np.float64)).sum(axis=-1)
            with np.errstate(divide="ignore"):
                tail_BN = np.log(np.maximum(rest_BN, 0)).astype(np.float32)
        return {
            "teacher_ids": records_BN["ids"].astype(np.int32),
            "teacher_logps": logps / np.float32(self.temperature) - norm_BN[..., None],
            "teacher_tail": np.ascontiguousarray(tail_BN),
        }


def _checked(folder: Path, wanted: Settings, temperature: float) -> Manifest:
    manifest = read_manifest(folder)
    if manifest is None:
        raise ConfigError(
            f"distillation.shards must be a folder that `python -m fftnet_jax.distillation.shards` wrote, got {folder}"
        )
    check_same(
        manifest.settings, wanted, folder, ignored=("top_k", "temperature", "rows_per_shard", "teacher", "dtype")
    )
    done = sum(len(shard.tokens) for shard in manifest.shards)
    if not manifest.complete:
        raise ConfigError(
            f"distillation.shards {folder} hold {done} of {wanted.rows} rows; run the same command again to finish them"
        )
    held = manifest.settings.temperature
    if manifest.settings.top_k and temperature not in (1.0, held):
        raise ConfigError(
            f"distillation.temperature must be 1 or {held:g}: the top {manifest.settings.top_k} log-probabilities in "
            f"{folder} don't determine the teacher at another one, got {temperature:g}"
        )
    for shard in manifest.shards:
        file = folder / shard.file
        if not file.is_file() or sha256_of(file) != shard.sha256:
            raise ConfigError(f"{file} is damaged: its SHA-256 is not that in the manifest; write the shards again")
    return manifest
