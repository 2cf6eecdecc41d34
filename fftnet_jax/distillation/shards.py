"""Write a teacher's log-probabilities for an experiment's training data.

    python -m fftnet_jax.distillation.shards --config experiments/gsm8k_distill_smollm2.py

The teacher, the data and the folder are those of the configuration. A stopped run continues with the same command.
"""

import sys
from pathlib import Path

from fftnet_jax.config import Config
from fftnet_jax.config.command_line import parse_config, run_command
from fftnet_jax.distillation.targets import shard_settings, teacher_fingerprint
from fftnet_jax.distillation.teachers import load_teacher
from fftnet_jax.distillation.vocabulary import kept_ids
from fftnet_jax.distillation.writer import write_shards
from fftnet_jax.errors import ConfigError
from fftnet_jax.tasks import load_dataset


def main(argv: list[str]) -> int:
    return run_command(lambda: write(parse_config(argv, __doc__)[1]), "stopped; the same command goes on from there")


def write(config: Config) -> int:
    """Writes the shards that `config` asks for, with a progress bar, and prints what they cost."""
    d = config.distillation
    for name, value in (("teacher", d.teacher), ("shards", d.shards)):
        if not value:
            raise ConfigError(f"distillation.{name} must be set to write shards, got ''")
    dataset = load_dataset(config.data, config.model.family, config.seed)
    settings = shard_settings(config, dataset, teacher_fingerprint(d.teacher))
    model, params, tokenizer = load_teacher(d.teacher, d.teacher_dtype)
    kept = kept_ids(model, tokenizer, dataset)
    written = write_shards(Path(d.shards), settings, dataset.train, model, params, kept, d.teacher_batch_size)
    speed = f"{written.tokens_now / written.seconds:,.0f} tokens/s" if written.tokens_now else "nothing was left to do"
    each = written.bytes / max(written.tokens, 1)
    print(f"{written.tokens:,} tokens in {d.shards}, {each:.0f} bytes each, {written.bytes / 1e6:,.1f} MB; {speed}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
