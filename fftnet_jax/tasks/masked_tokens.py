"""Filling in masked tokens, an encoder's task, on the data of another task."""

import jax.numpy as jnp
import numpy as np

from fftnet_jax.config import DataConfig, SampleConfig
from fftnet_jax.data.splits import SPLITS, Dataset
from fftnet_jax.data.windows import Source
from fftnet_jax.models import Encoder
from fftnet_jax.tasks.base import Task
from fftnet_jax.tasks.tokens import TokenTask, writer


class MaskedWindows(Source):
    """Masked-token prediction over the windows of `source`, for encoders.

    Each position that counts in `source` is masked with probability `mask_rate`, and at least one is: its input becomes
    `mask_id`, its target is the input token that stood there, and only masked positions have weight. Item `i` is masked
    by (seed, i) alone; a batch that is given an `rng` draws fresh masks, so that training sees new ones each epoch.
    """

    draws_anew = True

    def __init__(self, source: Source, mask_rate: float, mask_id: int, seed: int):
        self.source, self.mask_rate, self.mask_id, self.seed = source, mask_rate, mask_id, seed

    def __len__(self) -> int:
        return len(self.source)

    def batch(self, indices, rng=None):
        batch = self.source.batch(indices)
        shape = batch["inputs"].shape
        if rng is None:
            draws = np.stack([np.random.default_rng([self.seed, int(i)]).random(shape[1]) for i in indices])
        else:
            draws = rng.random(shape)
        draws = np.where(batch["weights"] > 0, draws, np.inf)
        masked = draws < self.mask_rate
        masked[np.arange(len(masked)), draws.argmin(axis=1)] = True
        masked &= batch["weights"] > 0
        return {
            "inputs": np.where(masked, np.int32(self.mask_id), batch["inputs"]),
            "targets": batch["inputs"],
            "weights": masked.astype(np.float32),
        }


class MaskedTokens(TokenTask):
    """What `task` loads, with some tokens masked; one more id, the mask, is in the vocabulary."""

    def __init__(self, task: Task):
        self.task = task

    def load(self, data: DataConfig, seed: int = 0) -> Dataset:
        dataset = self.task.load(data, seed)
        for number, name in enumerate(SPLITS):
            masked = MaskedWindows(getattr(dataset, name), data.mask_rate, dataset.vocab_size, seed + number)
            setattr(dataset, name, masked)
        if dataset.test_is_validation:
            dataset.test = dataset.validation
        dataset.vocab_size += 1
        dataset.characters = None
        return dataset

    def sample(
        self, model: Encoder, params: dict, dataset: Dataset, how: SampleConfig, seed: int, split: str = "validation"
    ) -> str:
        """The first row of the validation split, and the model's reading of its gaps."""
        batch, write = dataset.validation.batch(np.arange(1)), writer(dataset)
        inputs, targets, masked = batch["inputs"][0], batch["targets"][0], batch["weights"][0] > 0
        guess = np.asarray(model.apply({"params": params}, jnp.asarray(inputs)[None])[0].argmax(axis=-1))
        hits = int((guess == targets)[masked].sum())
        original = np.where(masked, targets, inputs)
        filled = np.where(masked, guess, inputs)
        return (
            f"--- original\n{write(original)}\n--- {int(masked.sum())} masked tokens filled in, {hits} of them right\n"
            f"{write(np.minimum(filled, dataset.vocab_size - 2))}"
        )
