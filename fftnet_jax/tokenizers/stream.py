"""Text of tokens as they come."""

from fftnet_jax.tokenizers.base import Tokenizer


class StreamDecoder:
    """Text of a growing sequence of ids, piece by piece; a piece never changes once given out.

    A character split over several tokens appears with its last one. Each `push` decodes a few ids only, however long
    the sequence is. The pieces and the `flush` together equal `tokenizer.decode` of the whole sequence.
    """

    LONGEST = 16  # ids kept when the text never gets clean, as for a model that emits stray bytes
    CONTEXT = 4  # ids that decide how bytes to come decode: UTF-8 looks at most three bytes back

    def __init__(self, tokenizer: Tokenizer):
        self._decode = tokenizer.decode
        self._ids: list[int] = []  # the last few ids; all before them is given out
        self._shown = 0  # characters of decode(self._ids) given out

    def push(self, id: int) -> str:
        """The text that `id` settles; empty while a character is incomplete."""
        self._ids.append(int(id))
        text = self._decode(self._ids)
        settled = len(text.rstrip("\ufffd"))
        if len(self._ids) >= self.LONGEST:  # an incomplete character at the end shows as one U+FFFD; the rest is final
            settled = max(settled, len(text) - 1)
        piece = text[self._shown : settled]
        self._shown = max(self._shown, settled)
        self._forget(text)
        return piece

    def flush(self) -> str:
        """The text still held back; afterwards the decoder is as new."""
        piece = self._decode(self._ids)[self._shown :]
        self._ids, self._shown = [], 0
        return piece

    def _forget(self, text: str) -> None:
        held = len(text) - self._shown
        for keep in range(1, self.CONTEXT + 1):
            tail = self._decode(self._ids[-keep:])
            if "\ufffd" not in tail or (keep == self.CONTEXT and len(self._ids) >= self.LONGEST):
                self._ids, self._shown = self._ids[-keep:], len(tail) - held
                return
