"""Texts as tokens, which are kept in the cache where making them takes long."""

import contextlib
import hashlib
import io
import json
from pathlib import Path

import numpy as np

from fftnet_jax.data.splits import fingerprint
from fftnet_jax.files import cache_dir, write_atomic
from fftnet_jax.tokenizers import Tokenizer

_DIGEST_WORDS = 8  # a SHA-256, as int32


def encoded(part: str, tokenizer: Tokenizer) -> np.ndarray:
    """The tokens of `part`, int32 (T,); slow tokenizers' are kept in the cache as a digest and the tokens."""
    if tokenizer.name in ("char", "byte"):  # quicker than the file
        return tokenizer.encode_array(part)
    key = fingerprint(part, json.dumps(tokenizer.to_dict(), sort_keys=True))
    path = cache_dir() / "tokens" / f"{key}.npy"
    tokens = _read_tokens(path)
    if tokens is None:
        tokens = tokenizer.encode_array(part)
        file = io.BytesIO()
        np.save(file, np.concatenate([_digest(tokens), tokens]))
        with contextlib.suppress(OSError):  # a cache that can't be written costs time, not the run
            write_atomic(path, file.getvalue())
    return tokens


def _read_tokens(path: Path) -> np.ndarray | None:
    try:
        array = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    if array.dtype != np.int32 or array.ndim != 1:
        return None
    digest, tokens = array[:_DIGEST_WORDS], array[_DIGEST_WORDS:]
    return tokens if np.array_equal(digest, _digest(tokens)) else None  # damaged: it is built again


def _digest(tokens: np.ndarray) -> np.ndarray:
    return np.frombuffer(hashlib.sha256(np.ascontiguousarray(tokens)).digest(), np.int32)
