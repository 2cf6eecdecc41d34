"""Predicting each token from those before it; for an encoder, masked tokens of the same data."""

import numpy as np

from fftnet_jax.config import SampleConfig
from fftnet_jax.data.splits import Dataset
from fftnet_jax.generation import Sampling, generate
from fftnet_jax.models import Encoder
from fftnet_jax.tasks.base import Task
from fftnet_jax.tasks.masked_tokens import MaskedTokens
from fftnet_jax.tasks.tokens import TokenTask, writer

OPENING = 16  # tokens of the validation split that a sample continues when no prompt is set


class NextTokens(TokenTask):
    """Base of the decoders' tasks: they load differently."""

    def for_family(self, family: str) -> Task:
        return MaskedTokens(self) if family == "encoder" else self

    def opening(self, dataset: Dataset, split: str) -> tuple[list[int], str]:
        """What a sample continues when no prompt is set, and the continuation in the data, "" for none."""
        return dataset.validation.batch(np.arange(1))["inputs"][0][:OPENING].tolist(), ""

    def sample(
        self, model: Encoder, params: dict, dataset: Dataset, how: SampleConfig, seed: int, split: str = "validation"
    ) -> str:
        """A prompt and its continuation."""
        tokenizer, wanted = dataset.tokenizer, ""
        if how.prompt and tokenizer:
            prompt = tokenizer.encode(how.prompt)
        else:
            prompt, wanted = self.opening(dataset, split)
        sampling = Sampling(how.temperature, how.top_k, how.top_p)
        new = [int(ids[0]) for ids in generate(model, params, [prompt], how.max_new_tokens, sampling, seed)]
        if wanted and tokenizer.eos_id in new:
            new = new[: new.index(tokenizer.eos_id)]
        return writer(dataset)(prompt + new) + (f"\n--- the answer in the data\n{wanted}" if wanted else "")
