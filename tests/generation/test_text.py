import pytest
from hypothesis import given
from hypothesis import strategies as st

from fftnet_jax.generation import stream_text
from fftnet_jax.tokenizers import ByteTokenizer, CharTokenizer

TEXT = st.text(st.sampled_from("abé\U0001f600\n"), max_size=30)


@given(TEXT)
def test_pieces_together_are_the_whole(text):
    tokenizer = ByteTokenizer()
    pieces = list(stream_text(tokenizer.encode(text), tokenizer))
    assert "".join(pieces) == text
    assert all("\ufffd" not in piece for piece in pieces)


@given(st.binary(max_size=30))
def test_stray_bytes_read_as_they_would_at_once(data):
    tokenizer = ByteTokenizer()
    assert "".join(stream_text(data, tokenizer)) == tokenizer.decode(list(data))


@given(TEXT, st.text(st.sampled_from("abé"), min_size=1, max_size=4))
def test_text_ends_before_the_stop_text(text, stop):
    tokenizer = ByteTokenizer()  # é comes in two pieces, the stop text in several
    assert "".join(stream_text(tokenizer.encode(text), tokenizer, stop)) == text.partition(stop)[0]


def test_text_is_shown_as_soon_as_it_is_settled():
    tokenizer, shown = CharTokenizer("abcx"), []

    def ids():
        for character in "abxabc":
            yield tokenizer.encode(character)[0]
            shown.append("".join(pieces))

    pieces = []
    for piece in stream_text(ids(), tokenizer, stop="abc"):
        pieces.append(piece)
    assert shown[:5] == ["", "", "abx", "abx", "abx"]  # "ab" might have been the start of the stop text
    assert "".join(pieces) == "abx"


@pytest.mark.parametrize("stop", ["", "zz"])
def test_end_of_text_token_ends_it(stop):
    tokenizer = CharTokenizer("abc")
    tokenizer.eos_id = 2
    assert "".join(stream_text([0, 1, 2, 0], tokenizer, stop)) == "ab"
