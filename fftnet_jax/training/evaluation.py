"""Loss and accuracy over a whole split."""

import math
from collections.abc import Callable

import jax
from jax.sharding import Mesh

from fftnet_jax.data import eval_batches
from fftnet_jax.models import Encoder
from fftnet_jax.parallel.mesh import Devices, own_rows, place_batch
from fftnet_jax.training.loss import make_token_sums


def make_evaluate(model: Encoder, batch_size: int, mesh: Mesh) -> Callable[[dict, object], dict]:
    """(params, source) → {"loss": nats per token, "accuracy", "tokens"} over every token of the source, once."""

    token_sums = make_token_sums(model)

    def device_sums(params, batch):
        devices = Devices(mesh, params)
        sums = devices.with_whole(token_sums)
        return devices.run(lambda params, batch: devices.total(sums(params, batch)), params, batch, has_tree=False)

    sums_of = jax.jit(device_sums)

    def evaluate(params, source) -> dict:
        parts, rows = [], own_rows(mesh, batch_size)
        for batch in eval_batches(source, batch_size, rows):
            parts.append(sums_of(params, place_batch(batch, mesh, batch_size)))
            if len(parts) > 1:  # one batch stays in flight
                parts[-2] = jax.device_get(parts[-2])
        parts = jax.device_get(parts)
        # Added on the host in float64: float32 would lose digits over millions of tokens.
        totals = {name: math.fsum(float(part[name]) for part in parts) for name in ("loss", "correct", "count")}
        count = totals["count"]
        return {"loss": totals["loss"] / count, "accuracy": totals["correct"] / count, "tokens": int(count)}

    return evaluate


def test_figures(metrics: dict, characters: int | None) -> dict:
    """Perplexity and bits per character beside loss and accuracy; None where the split has no characters."""
    loss = metrics["loss"]
    bits = loss * metrics["tokens"] / math.log(2) / characters if characters else None
    perplexity = math.exp(loss) if loss < 700 else math.inf
    return {**metrics, "perplexity": perplexity, "bits_per_character": bits}
