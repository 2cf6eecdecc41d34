"""What weights of 8 bits cost a trained run: its loss over the whole validation split, as it computes and with them.

    python -m studies.weights --workdir runs/shakespeare

With the weights that `Decoder.prepare` leaves for steps; those of an STFT stay as they are in a full pass.
"""

import sys

import jax

from benchmarks import command_line
from fftnet_jax.ops.int8 import WEIGHTS
from fftnet_jax.runs.opening import load_decoder
from fftnet_jax.tasks.sums import token_sums
from studies.validation import opened


def main(argv=None) -> None:
    run, batches = opened(argv, __doc__, load_decoder)

    @jax.jit
    def sums(variables, batch):
        return token_sums(run.model.apply(variables, batch["inputs"]), batch["targets"], batch["weights"])

    for weights in (None, *WEIGHTS):
        constants = {}
        if weights:
            constants = run.model.apply({"params": run.params}, weights, method="prepare", mutable=["constants"])[1]
        parts = [jax.device_get(sums({"params": run.params, **constants}, b)) for b in batches]
        loss, correct, count = (sum(float(part[name]) for part in parts) for name in ("loss", "correct", "count"))
        print(f"{weights or run.config.model.dtype:<8} {loss / count:.5f} nats per token, {correct / count:.3%} right")


if __name__ == "__main__":
    sys.exit(command_line.run(main))
