"""Running a teacher once over the training rows, and keeping what a student needs of it."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from fftnet_jax.data.windows import Source
from fftnet_jax.distillation.manifest import Manifest, Settings, Shard, check_same, read_manifest, shard_name
from fftnet_jax.distillation.objective import teacher_logits
from fftnet_jax.distillation.vocabulary import teacher_features, teacher_head
from fftnet_jax.errors import ConfigError
from fftnet_jax.files import sha256_of, write_atomic
from fftnet_jax.models.llama import Teacher

LENGTH_STEP = 32  # rows are padded to a multiple of it, so that few programs are compiled
CHUNK_TOKENS = 128  # whose logits exist at a time; more of them no longer stay in a CPU's cache


@dataclasses.dataclass(frozen=True)
class Written:
    """What a call of `write_shards` did."""

    tokens: int
    tokens_now: int  # of them in this call
    seconds: float
    bytes: int


def write_shards(
    folder: Path,
    settings: Settings,
    source: Source,
    model: Teacher,
    params: dict,
    kept: np.ndarray | None = None,
    batch_size: int = 16,
    progress: bool = True,
) -> Written:
    """Writes, or goes on writing, the shards of all rows of `source`.

    Each shard depends on its own rows only and appears whole, so that a folder finished after any number of kills is
    byte for byte that of an undisturbed run on the same machine.

    Args:
      kept: the teacher's ids of the student's tokens, for a reduced vocabulary.
      batch_size: rows that the teacher reads at a time.

    Raises:
      ConfigError: the folder holds other shards, or can't be written.
    """
    manifest = _resume(folder, settings)
    lengths_R = source.lengths
    kept_K = None if kept is None else jnp.asarray(kept)
    score = partial(_score, model, settings, params, kept_K)
    total, before = int(lengths_R.sum()), sum(sum(shard.tokens) for shard in manifest.shards)
    start_time = time.perf_counter()
    with tqdm(total=total, initial=before, unit="token", unit_scale=True, disable=not progress) as bar:
        for index in range(len(manifest.shards), -(-settings.rows // settings.rows_per_shard)):
            start = index * settings.rows_per_shard
            rows = np.arange(start, min(start + settings.rows_per_shard, settings.rows))
            records = np.zeros(int(lengths_R[rows].sum()), manifest.record)
            for places, values in _scored(score, source, rows, batch_size):
                for name, array in values.items():
                    records[name][places] = array
                bar.update(len(places))
            shard = _write_shard(folder, index, start, lengths_R[rows], records)
            manifest = dataclasses.replace(manifest, shards=(*manifest.shards, shard))
            _guard(manifest.write, folder)
    return Written(total, total - before, time.perf_counter() - start_time, total * manifest.record.itemsize)


def _resume(folder: Path, settings: Settings) -> Manifest:
    """The manifest to go on from: that in the folder up to its first shard that is not sound."""
    _guard(lambda path: path.mkdir(parents=True, exist_ok=True), folder)
    for left in folder.glob("*.bin.*"):  # of a writer that was killed
        left.unlink()
    found = read_manifest(folder)
    if found is None:
        return Manifest(settings)
    check_same(found.settings, settings, folder)
    sound = 0
    for shard in found.shards:
        file = folder / shard.file
        if not file.is_file() or sha256_of(file) != shard.sha256:
            break
        sound += 1
    return dataclasses.replace(found, shards=found.shards[:sound])


def _write_shard(folder, index, start, lengths, records) -> Shard:
    name = shard_name(index)
    _guard(lambda path: write_atomic(path / name, records.tobytes()), folder)
    return Shard(name, start, tuple(int(n) for n in lengths), sha256_of(folder / name))


def _guard(action: Callable[[Path], None], folder: Path) -> None:
    try:
        action(folder)
    except OSError as error:
        raise ConfigError(
            f"distillation.shards must be a folder that can be written, got {folder}: {error.strerror}"
        ) from None


def _scored(score, source: Source, rows: np.ndarray, batch_size: int) -> Iterator[tuple[np.ndarray, dict]]:
    """For batches of the rows: places of their tokens among those of all `rows`, and what is kept of each."""
    lengths = source.lengths[rows]
    first = np.cumsum(lengths) - lengths
    pending = None
    for some in np.array_split(np.argsort(lengths, kind="stable"), -(-len(rows) // batch_size)):  # alike in length
        inputs_BN = source.batch(rows[some])["inputs"]
        longest = int(lengths[some].max())
        padded = min(-(-max(longest, 1) // LENGTH_STEP) * LENGTH_STEP, inputs_BN.shape[1])
        inputs_BN = np.pad(inputs_BN, ((0, batch_size - len(some)), (0, 0)))[:, :padded]
        values = score(inputs_BN)  # under way while the batch before is copied
        if pending:
            yield _real(*pending)
        pending = values, lengths[some], first[some]
    yield _real(*pending)


def _real(values: dict, lengths: np.ndarray, first: np.ndarray) -> tuple[np.ndarray, dict]:
    """Without the padding: places and values of real tokens."""
    values = jax.device_get(values)
    length = values["lse"].shape[1]
    real_BN = np.arange(length) < lengths[:, None]
    places_BN = first[:, None] + np.arange(length)
    return places_BN[real_BN], {name: array[: len(lengths)][real_BN] for name, array in values.items()}


@partial(jax.jit, static_argnames=("model", "settings"))
def _score(model: Teacher, settings: Settings, params: dict, kept_K: jax.Array | None, ids_BN: jax.Array) -> dict:
    """What is kept of each of the student's tokens (B, N): arrays (B, N, …)."""
    x_BND = teacher_features(model, params, ids_BN, kept_K)
    whole, axis = teacher_head(model, params, settings.vocab_size, kept_K), model.head_weights(params)[2]
    x_RD = x_BND.reshape(-1, x_BND.shape[-1])
    pad = -len(x_RD) % CHUNK_TOKENS
    x_KCD = jnp.pad(x_RD, ((0, pad), (0, 0))).reshape(-1, CHUNK_TOKENS, x_RD.shape[1])
    keep = lambda x_CD: _keep(teacher_logits(x_CD, whole, axis), settings.top_k, settings.temperature)  # noqa: E731
    values = jax.lax.map(keep, x_KCD)
    rows = lambda v: v.reshape(-1, *v.shape[2:])[: len(x_RD)].reshape(*ids_BN.shape, *v.shape[2:])  # noqa: E731
    return jax.tree.map(rows, values)


def _keep(logits_CV: jax.Array, top_k: int, temperature: float) -> dict:
    """One record a row; see `Manifest.record`."""
    if not top_k:
        lse_C = jax.nn.logsumexp(logits_CV, axis=1)
        return {"lse": lse_C, "logps": logits_CV - lse_C[:, None]}
    top_CK, ids_CK = jax.lax.top_k(logits_CV, top_k)
    max_C1 = logits_CV.max(axis=1, keepdims=True)  # not top_CK[:, :1], for which XLA would sort whole rows
    # Without the k, rather than one minus their sum: the tail may be far below float32's step at 1.
    others_CV = logits_CV.at[jnp.arange(len(ids_CK))[:, None], ids_CK].set(-jnp.inf) - max_C1
    top_CK = top_CK - max_C1

    def masses(temperature):
        """Logs of the sums of exp(logits / T), the highest being 0: of the others and of all."""
        others_C = jnp.exp(others_CV / temperature).sum(axis=1)
        return jnp.log(others_C), jnp.log(others_C + jnp.exp(top_CK / temperature).sum(axis=1))

    (_, lse_C), (tail_C, total_C) = masses(1.0), masses(temperature)
    return {
        "lse": lse_C + max_C1[:, 0],
        "norm": total_C - lse_C / temperature,
        "tail": tail_C - total_C,
        "logps": top_CK - lse_C[:, None],
        "ids": ids_CK,
    }
