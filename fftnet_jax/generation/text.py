"""Streaming text out of generated tokens, up to a stop text."""

from collections.abc import Iterable, Iterator

from fftnet_jax.tokenizers import StreamDecoder, Tokenizer


def stream_text(ids: Iterable[int], tokenizer: Tokenizer, stop: str = "") -> Iterator[str]:
    """Pieces of text as soon as later tokens can't change them; ends before `stop`, which is not shown."""
    decoder, pending = StreamDecoder(tokenizer), ""
    for token in ids:
        if token == tokenizer.eos_id:
            break
        pending += decoder.push(int(token))
        if stop and stop in pending:
            yield pending.partition(stop)[0]
            return
        held = _overlap(pending, stop)
        if len(pending) > held:
            yield pending[: len(pending) - held]
            pending = pending[len(pending) - held :]
    pending += decoder.flush()
    yield pending.partition(stop)[0] if stop else pending


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that may be the beginning of `stop`."""
    return next((n for n in range(min(len(text), len(stop)), 0, -1) if text.endswith(stop[:n])), 0)
