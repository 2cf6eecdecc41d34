"""What all tasks have in common whose answers are tokens."""

import math
from collections.abc import Callable

from fftnet_jax.data.splits import Dataset
from fftnet_jax.models import Encoder
from fftnet_jax.tasks.base import Task
from fftnet_jax.tasks.sums import model_sums


class TokenTask(Task):
    """Batches of `inputs` and `targets`, int32, and `weights`, float32, all (B, N); see `data.windows`."""

    def loss(self, model: Encoder, params: dict, batch: dict, **options) -> dict:
        return model_sums(model, params, batch, **options)

    def metrics(self, sums: dict[str, float]) -> dict[str, float]:
        """`loss` in nats per token, and `accuracy`."""
        return {"loss": sums["loss"] / sums["count"], "accuracy": sums["correct"] / sums["count"]}

    def figures(self, sums: dict[str, float], characters: int | None) -> dict[str, float | None]:
        """Perplexity and bits per character beside loss and accuracy; None where the split has no characters."""
        metrics = self.metrics(sums)
        return {
            **metrics,
            "tokens": int(sums["count"]),
            "perplexity": math.exp(metrics["loss"]) if metrics["loss"] < 700 else math.inf,
            "bits_per_character": sums["loss"] / math.log(2) / characters if characters else None,
        }


def writer(dataset: Dataset) -> Callable:
    """Token ids → text; the numbers themselves where there is no tokenizer."""
    return dataset.tokenizer.decode if dataset.tokenizer else lambda ids: " ".join(str(int(i)) for i in ids)
