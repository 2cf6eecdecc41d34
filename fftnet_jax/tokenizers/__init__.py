"""Text to token ids and back: one tokenizer a file, behind the protocol `Tokenizer`."""

# In the order in which messages name them.
# isort: off
from fftnet_jax.tokenizers.base import Tokenizer, get_tokenizer, load, register, save
from fftnet_jax.tokenizers.characters import CharTokenizer
from fftnet_jax.tokenizers.utf8 import ByteTokenizer
from fftnet_jax.tokenizers.tiktoken_encoding import TiktokenTokenizer
from fftnet_jax.tokenizers.transformers_tokenizer import HFTokenizer
from fftnet_jax.tokenizers.gguf_vocabulary import GGUFTokenizer
from fftnet_jax.tokenizers.reduced import ReducedTokenizer
from fftnet_jax.tokenizers.stream import StreamDecoder
# isort: on

__all__ = [
    "ByteTokenizer",
    "CharTokenizer",
    "GGUFTokenizer",
    "HFTokenizer",
    "ReducedTokenizer",
    "StreamDecoder",
    "TiktokenTokenizer",
    "Tokenizer",
    "get_tokenizer",
    "load",
    "register",
    "save",
]
