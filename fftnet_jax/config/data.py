"""What to train on."""

from collections.abc import Callable
from dataclasses import dataclass

from fftnet_jax.config.fields import DATA, FREE, Section, knob
from fftnet_jax.errors import ConfigError

# Name → what a registered task says of these settings and a family that it can't take; see `fftnet_jax.tasks.base`.
SOURCES: dict[str, Callable[["DataConfig", str], None]] = {}


@dataclass(frozen=True)
class DataConfig(Section):
    prefix = "data."
    resume = DATA

    source: str = knob("shakespeare", "corpus or task", choices=SOURCES)
    text_file: str = knob("", "UTF-8 text file; when set it replaces `source`", resume=FREE)
    tokenizer: str = knob("char", "char | byte | tiktoken:ENCODING | hf:NAME_OR_FOLDER | gguf:FILE | gguf:smollm2")
    split: tuple[float, ...] = knob((0.9, 0.05, 0.05), "contiguous shares: train, validation[, test]")
    length: int = knob(256, "tokens per sequence", minimum=1)
    batch_size: int = knob(32, "sequences per optimiser step", minimum=1)
    stride: int = knob(1, "tokens between the starts of training windows", minimum=1)
    mask_rate: float = knob(0.15, "share of tokens to predict (encoder only)", above=0, below=1)
    folder: str = knob(
        "", "`gsm8k`: folder with train.jsonl and test.jsonl; empty takes the Hugging Face hub's", resume=FREE
    )
    num_problems: int = knob(0, "`gsm8k`: first problems of train.jsonl; 0 for all but the held-out ones", minimum=0)
    num_validation: int = knob(200, "`gsm8k`: problems held out, those right after the training ones", minimum=1)
    num_test: int = knob(0, "`gsm8k`: first problems of test.jsonl; 0 for all", minimum=0)
    loss_on: str = knob("all", "`gsm8k`: tokens that count, all or those of the answers", choices=("all", "answer"))
    packing: bool = knob(False, "`gsm8k`: join problems into one stream and cut windows; else one problem a sequence")
    reduce_vocabulary: bool = knob(False, "`gsm8k`: leave out the tokens that no problem of either file holds")
    num_samples: int = knob(4096, "sequences in a synthetic task, all splits together", minimum=3)
    vocab_size: int = knob(64, "tokens in the `patterns` task", minimum=2)
    pattern_complexity: float = knob(0.5, "`patterns`: 10 × this many copied runs a sequence", minimum=0)
    num_keys: int = knob(16, "`recall`: key-value pairs a sequence", minimum=1)
    num_values: int = knob(16, "`recall`: possible values; chance is 1 / this", minimum=2)
    num_queries: int = knob(1, "`recall`: last tokens asked in training; held-out ones ask the very last", minimum=1)

    def __post_init__(self):
        super().__post_init__()
        split = self.split
        if len(split) not in (2, 3) or min(split) < 0 or min(split[:2]) <= 0 or abs(sum(split) - 1) > 1e-6:
            raise ConfigError(
                f"data.split must be two or three shares (train, validation[, test]) that add up to 1, got {split}"
            )

    @property
    def task(self) -> str:
        """The name of the registered task: a text file is one more corpus."""
        return "shakespeare" if self.text_file else self.source
