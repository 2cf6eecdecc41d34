"""What a model in training has to say: a continuation from a decoder, filled-in gaps from an encoder."""

import jax.numpy as jnp
import numpy as np

from fftnet_jax.config import Config
from fftnet_jax.data import Dataset
from fftnet_jax.errors import ConfigError
from fftnet_jax.generation import Sampling, generate
from fftnet_jax.models import Decoder, Encoder

OPENING = 16  # tokens of the validation split that a sample continues when no prompt is set


def check_prompt(config: Config, dataset: Dataset) -> None:
    """Raises ConfigError for a prompt that the tokenizer can't read, before hours of training rather than after."""
    if config.sample.prompt and dataset.tokenizer:
        try:
            dataset.tokenizer.encode(config.sample.prompt)
        except ConfigError as error:
            raise ConfigError(f"sample.prompt: {error}") from error


def sample_text(config: Config, dataset: Dataset, model: Encoder, params: dict, split: str = "validation") -> str:
    """A prompt and its continuation, or a masked piece of the validation split and the model's reading of it.

    Without a prompt it is the start of the split, or its first problem where it holds problems, whose answer follows.
    """
    tokenizer = dataset.tokenizer
    write = tokenizer.decode if tokenizer else lambda ids: " ".join(str(int(i)) for i in ids)
    if not isinstance(model, Decoder):
        return _filled_in(dataset, model, params, write)
    s = config.sample
    source, wanted = getattr(dataset, split), ""
    if s.prompt and tokenizer:
        prompt = tokenizer.encode(s.prompt)
    elif problems := getattr(source, "problems", None):
        prompt, wanted = tokenizer.encode(problems[0].prompt), f"\n--- the answer in the data\n{problems[0].answer}"
    else:
        prompt = dataset.validation.batch(np.arange(1))["inputs"][0][:OPENING].tolist()
    how = Sampling(s.temperature, s.top_k, s.top_p)
    new = [int(ids[0]) for ids in generate(model, params, [prompt], s.max_new_tokens, how, config.seed)]
    if wanted and tokenizer.eos_id in new:
        new = new[: new.index(tokenizer.eos_id)]
    return write(prompt + new) + wanted


def _filled_in(dataset: Dataset, model: Encoder, params: dict, write) -> str:
    batch = dataset.validation.batch(np.arange(1))
    inputs, targets, masked = batch["inputs"][0], batch["targets"][0], batch["weights"][0] > 0
    guess = np.asarray(model.apply({"params": params}, jnp.asarray(inputs)[None])[0].argmax(axis=-1))
    hits = int((guess == targets)[masked].sum())
    original = np.where(masked, targets, inputs)
    filled = np.where(masked, guess, inputs)
    return (
        f"--- original\n{write(original)}\n--- {int(masked.sum())} masked tokens filled in, {hits} of them right\n"
        f"{write(np.minimum(filled, dataset.vocab_size - 2))}"
    )
