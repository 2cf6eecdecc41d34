import os
import struct
import subprocess
import sys

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from fftnet_jax.errors import ConfigError
from fftnet_jax.interop.gguf_file import GGUFFile
from fftnet_jax.interop.smollm2 import smollm2_path
from fftnet_jax.tokenizers import GGUFTokenizer, ReducedTokenizer, StreamDecoder, get_tokenizer
from fftnet_jax.tokenizers.base import load, save
from fftnet_jax.tokenizers.gguf_vocabulary import PRE_TYPES

MERGES = ["Ġ t", "h e", "Ġt he", "Ġ 1", "1 2", "12 3", "' s", "Ì ģ"]
SPECIAL = ["<|end|>", "<|start of|>", "<user>"]
TOKENS = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), *(merge.replace(" ", "") for merge in MERGES)]
TYPES = [3, 3, 4] + [1] * (len(TOKENS) - 3)
quick = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write(path, pre="smollm", model="gpt2", tokens=TOKENS, merges=MERGES, types=TYPES, eos=0):
    """A GGUF file of a tokenizer alone."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model(model)
    if pre:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_merges(merges)
    if types:
        writer.add_token_types(types)
    if eos is not None:
        writer.add_eos_token_id(eos)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The tokenizer of a pre type, made once."""
    folder, known = tmp_path_factory.mktemp("gguf"), {}

    def make(pre):
        if pre not in known:
            known[pre] = get_tokenizer(f"gguf:{write(folder / f'{pre}.gguf', pre)}")
        return known[pre]

    return make


@pytest.fixture(scope="module")
def smollm2():
    """The tokenizer of SmolLM2, from the user's cache or fetched into it."""
    try:
        return GGUFTokenizer(smollm2_path())
    except ConfigError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("pre", PRE_TYPES)
@quick
@given(text=st.text(st.characters(codec="utf-8")))
def test_round_trip(pre, made, text):
    tokenizer = made(pre)
    ids = tokenizer.encode(text)
    if pre != "qwen2":  # which normalises
        assert tokenizer.decode(ids) == text
    array = tokenizer.encode_array(text)
    assert array.dtype == np.int32 and array.tolist() == ids
    assert tokenizer.encode_batch([text, "the"]) == [ids, tokenizer.encode("the")]
    decoder = StreamDecoder(tokenizer)
    assert "".join(map(decoder.push, ids)) + decoder.flush() == tokenizer.decode(ids)


@pytest.mark.parametrize(
    "pre, pieces",
    [
        ("smollm", ["Ġ", "1", "2", "3", "4", "'s", "Ġthe"]),
        ("gpt-2", ["Ġ1", "2", "3", "4", "'s", "Ġthe"]),
        ("default", ["Ġ1", "2", "3", "4", "'s", "Ġthe"]),
        ("qwen2", ["Ġ", "1", "2", "3", "4", "'s", "Ġthe"]),
        ("llama-bpe", ["Ġ", "123", "4", "'s", "Ġthe"]),
    ],
)
def test_how_text_is_cut(pre, pieces, made):
    assert [TOKENS[i] for i in made(pre).encode(" 1234's the")] == pieces


def test_only_qwen2_composes_characters(made):
    assert made("qwen2").decode(made("qwen2").encode("e\u0301")) == "\u00e9"
    assert [TOKENS[i] for i in made("gpt-2").encode("e\u0301")] == ["e", "Ìģ"]


def test_whole_words_win_in_llama(made, tmp_path):
    tokens = [*TOKENS, "abc"]  # which no merge makes
    file = write(tmp_path / "a.gguf", "llama-bpe", tokens=tokens, types=[*TYPES, 1])
    assert GGUFTokenizer(file).encode("abc") == [len(TOKENS)]
    assert len(GGUFTokenizer(write(tmp_path / "b.gguf", "qwen2", tokens=tokens, types=[*TYPES, 1])).encode("abc")) == 3


def test_special_tokens_are_matched_and_shown(made):
    tokenizer = made("smollm")
    ids = tokenizer.encode("the<|end|><user> <|start of|>")
    assert [TOKENS[i] for i in ids] == ["t", "he", "<|end|>", "<user>", "Ġ", "<|start of|>"]
    assert tokenizer.decode(ids) == "the<|end|><user> <|start of|>"
    assert (tokenizer.vocab_size, tokenizer.eos_id, tokenizer.name) == (len(TOKENS), 0, "gguf:smollm.gguf")
    assert tokenizer.encode("") == [] and tokenizer.decode([]) == ""


def test_lone_surrogates_become_replacements(made):
    assert made("smollm").decode(made("smollm").encode("a\udc80b")) == "a\ufffdb"


def test_ids_out_of_range_are_refused(made, refused):
    for id in (-1, len(TOKENS)):
        assert f"got {id}" in refused(made("smollm").decode, [0, id])


def test_what_a_file_may_leave_out(tmp_path):
    tokenizer = GGUFTokenizer(write(tmp_path / "a.gguf", pre="", types=None, eos=None))
    assert tokenizer.eos_id is None and len(tokenizer.encode("<|end|>")) > 1
    assert [TOKENS[i] for i in tokenizer.encode(" 12")] == ["Ġ1", "2"]


@pytest.mark.parametrize("reduced", (False, True))
def test_saved_tokenizer_needs_no_file(reduced, tmp_path, refused):
    file = write(tmp_path / "a.gguf")
    tokenizer = GGUFTokenizer(file)
    if reduced:
        tokenizer = ReducedTokenizer.from_ids(tokenizer, tokenizer.encode_array("the 123"))
    save(tokenizer, tmp_path / "run")
    file.unlink()
    again = load(tmp_path / "run")
    assert type(again) is type(tokenizer) and again.to_dict() == tokenizer.to_dict()
    assert (again.name, again.vocab_size, again.eos_id) == (tokenizer.name, tokenizer.vocab_size, tokenizer.eos_id)
    text = "the 123<|end|>'s"
    assert again.encode(text) == tokenizer.encode(text) and again.eos_id is not None
    inner = tmp_path / "run" / "tokenizer" / "tokenizer.json"
    inner.write_text(inner.read_text().replace('"individual_digits":true', '"individual_digits":false'))
    assert "SHA-256" in refused(load, tmp_path / "run")
    inner.unlink()
    assert str(inner) in refused(load, tmp_path / "run")


@pytest.mark.parametrize(
    "wrong, wanted",
    [
        ({"pre": "tekken"}, "tokenizer.ggml.pre must be one of smollm, gpt-2, default, qwen2, llama-bpe, got 'tekken'"),
        ({"model": "llama"}, "tokenizer.ggml.model must be one of gpt2, got 'llama'"),
        ({"tokens": [*TOKENS[:-1], "t"]}, "must be different"),
        ({"types": TYPES[1:]}, "a token_type each"),
        ({"merges": ["t h e"]}, "tokenizer.ggml.merges"),
        ({"merges": ["the"]}, "tokenizer.ggml.merges"),
        ({"merges": ["t 東"]}, "tokenizer.ggml.merges"),
        ({"merges": ["t t"]}, "tokenizer.ggml.merges must make tokens"),
        ({"merges": [1, 2]}, "tokenizer.ggml.merges must be a list of texts, got '[1 2]'"),
        ({"eos": len(TOKENS)}, f"eos_token_id must be in 0..{len(TOKENS) - 1}"),
    ],
)
def test_metadata_that_is_refused(wrong, wanted, tmp_path, refused):
    message = refused(GGUFTokenizer, write(tmp_path / "a.gguf", **wrong))
    assert wanted in message and str(tmp_path / "a.gguf") in message


def test_file_without_tokenizer(tmp_path, refused):
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    assert "tokenizer.ggml.model" in refused(GGUFTokenizer, tmp_path / "a.gguf")
    assert "and is missing" in refused(GGUFTokenizer, tmp_path / "a.gguf")


def header(*keys, tensors=b"", count=0, version=3):
    parts = [struct.pack("<4sIQQ", b"GGUF", version, count, len(keys))]
    parts += [struct.pack("<Q", len(name)) + name + value for name, value in keys]
    return b"".join([*parts, tensors])


@pytest.mark.parametrize(
    "data, wanted",
    [
        (b"", "readable GGUF file"),
        (b"GG", "must be a GGUF file"),
        (b"PK\3\4" + b"\0" * 100, "must be a GGUF file, got first bytes b'PK\\x03\\x04'"),
        (b"GGUF\3\0", "cut short"),
        (header(version=1), "version must be 2 or 3, little-endian, got 1"),
        (struct.pack("<4s", b"GGUF") + struct.pack(">IQQ", 3, 0, 0), "little-endian"),
        (header(count=2**63), f"says {2**63} entries"),
        (struct.pack("<4sIQQ", b"GGUF", 3, 0, 2**40), "entries"),
        (header((b"k", struct.pack("<IQ", 8, 2**62))), "'k' reaches byte"),
        (header((b"k", struct.pack("<I", 99))), "'k' has value type 99"),
        (header((b"k", struct.pack("<IIQ", 9, 9, 1))), "an array of value type 9"),
        (header((b"k", struct.pack("<IIQ", 9, 8, 2**50))), "entries"),
        (header((b"k", struct.pack("<IIQ", 9, 5, 2**62))), "entries"),
        (header((b"k", struct.pack("<IQ", 8, 2) + b"\xff\xfe")), "not UTF-8"),
        (header((b"general.alignment", struct.pack("<II", 4, 0))), "general.alignment must be a power of 2, got '0'"),
        (header((b"general.alignment", struct.pack("<II", 4, 24))), "got '24'"),
        (header(tensors=struct.pack("<QcI", 1, b"t", 4_000_000) + b"\0" * 99, count=1), "'t' 4000000 axes"),
        (header(tensors=struct.pack("<QcIQ", 1, b"t", 2, 1), count=1, version=2), "table of tensors"),
    ],
)
def test_damaged_headers(data, wanted, tmp_path, refused):
    path = tmp_path / "a.gguf"
    path.write_bytes(data.ljust(24, b"\0") if data[:4] == b"GGUF" and len(data) > 8 else data)
    message = refused(GGUFFile, path)
    assert wanted in message and str(path) in message


def test_no_file(tmp_path, refused):
    assert "No such file" in refused(get_tokenizer, f"gguf:{tmp_path / 'none.gguf'}")
    assert "must be a readable GGUF file" in refused(get_tokenizer, f"gguf:{tmp_path}")


@given(data=st.data())
@quick
def test_any_damage_is_one_line(data, tmp_path):
    content = bytearray(write(tmp_path / "a.gguf").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "b.gguf").write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        GGUFTokenizer(tmp_path / "b.gguf")
    except ConfigError as error:
        assert "\n" not in str(error)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork_is_quiet(tmp_path):
    code = (
        "import os, sys, warnings\nfrom fftnet_jax.tokenizers.gguf_vocabulary import GGUFTokenizer\n"
        "tokenizer = GGUFTokenizer(sys.argv[1])\ntokenizer.encode_batch(['the'] * 1000)\n"
        "if os.fork() == 0:\n    tokenizer.encode_batch(['the'] * 1000)\n    os._exit(0)\nos.wait()\n"
        "print(os.environ['TOKENIZERS_PARALLELISM'])"  # not all versions of the library warn
    )
    environment = {name: value for name, value in os.environ.items() if name != "TOKENIZERS_PARALLELISM"}
    command = [sys.executable, "-c", code, write(tmp_path / "a.gguf")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert (done.stdout, done.stderr) == ("false\n", "")


def test_smollm2(smollm2):
    assert (smollm2.vocab_size, smollm2.eos_id) == (49152, 2)
    # The ids of Hugging Face's tokenizer.
    assert smollm2.encode("Hello world! 123") == [19556, 905, 17, 216, 33, 34, 35]
    assert smollm2.encode("<|im_start|>user\nHi<|im_end|>") == [1, 4093, 198, 26843, 2]
    text = "Janet’s ducks lay 16 eggs; naïve — 東京 is 😀!\n\n\tShe sells 1,234.\n#### 18"
    assert smollm2.decode(smollm2.encode(text)) == text
