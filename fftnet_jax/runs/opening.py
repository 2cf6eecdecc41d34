"""Opening a trained run: everything comes from its folder."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp

from fftnet_jax import tokenizers
from fftnet_jax.config import Config
from fftnet_jax.errors import ConfigError
from fftnet_jax.models import Decoder, Encoder, build_model
from fftnet_jax.models.sizes import weigh
from fftnet_jax.runs.checkpoints import read_params
from fftnet_jax.runs.folder import RunFolder
from fftnet_jax.runs.memory import PROGRAM, Need, check_memory
from fftnet_jax.tokenizers import Tokenizer


@dataclass
class LoadedRun:
    """A model with its parameters; `tokenizer` is None for synthetic tasks, `step` is the checkpoint's."""

    model: Encoder
    params: dict
    tokenizer: Tokenizer | None
    config: Config
    step: int

    def describe(self) -> str:
        """One line: mixers, parameters, checkpoint."""
        count = sum(leaf.size for leaf in jax.tree.leaves(self.params))
        mixers = ", ".join(dict.fromkeys(self.config.model.mixers))
        return f"{mixers}, {count:,} parameters, " + (f"step {self.step}" if self.step else "untrained")


def load(workdir: str | Path, which: str = "best", untrained: bool = False) -> LoadedRun:
    """Opens what `train.py` left in `workdir`.

    Args:
      which: "best" (lowest validation loss) or "latest" checkpoint.
      untrained: fall back to fresh parameters (step 0) when there is no checkpoint.

    Raises:
      ConfigError: no run there, no checkpoint, or a file that can't be read.
    """
    if which not in ("best", "latest"):
        raise ConfigError(f"which must be 'best' or 'latest', got {which!r}")
    folder = RunFolder(workdir)
    config = folder.load_config()
    check_opens(folder, config)
    model = build_model(config.model)
    tokenizer = tokenizers.load(folder.path) if (folder / "tokenizer.json").exists() else None
    try:
        params, step = restore_params(folder, model, which)
    except ConfigError:
        if not untrained:
            raise
        params, step = fresh_params(model, config.seed), 0
    return LoadedRun(model, params, tokenizer, config, step)


def load_decoder(workdir: str | Path, which: str = "best", untrained: bool = False) -> LoadedRun:
    """`load` for writing text: a decoder with a tokenizer.

    Raises:
      ConfigError: as `load`, or the run can't write text.
    """
    if untrained and not (Path(workdir) / "config.json").exists():
        tokenizer = tokenizers.ByteTokenizer()
        config = resolve_sizes(Config(), tokenizer.vocab_size)
        model = build_model(config.model)
        return LoadedRun(model, fresh_params(model, 0), tokenizer, config, 0)
    run = load(workdir, which, untrained)
    if not isinstance(run.model, Decoder):
        raise ConfigError(
            f"--workdir must hold a decoder; {workdir} holds an encoder ({', '.join(set(run.config.model.mixers))}), "
            f"which sees the future and can't write text: train with model.mixer='causal_fftnet'"
        )
    if run.tokenizer is None:
        raise ConfigError(f"--workdir must hold a run on text; {workdir} was trained on {run.config.data.source!r}")
    return run


def resolve_sizes(config: Config, vocab_size: int) -> Config:
    """The configuration with the sizes filled in that follow from the data."""
    model = config.model
    if model.vocab_size not in (0, vocab_size):
        raise ConfigError(f"model.vocab_size must be the data's ({vocab_size}) or 0, got {model.vocab_size}")
    length = model.max_length or config.data.length
    return dataclasses.replace(config, model=dataclasses.replace(model, vocab_size=vocab_size, max_length=length))


def check_opens(folder: RunFolder, config: Config) -> None:
    """Raises ConfigError where the parameters that a run's configuration tells of can't fit on the first device."""

    def need(config: Config) -> Need:
        return Need(weigh(config.model), PROGRAM * config.model.num_layers)

    try:
        check_memory(config, need, jax.local_devices()[:1], "its parameters")
    except ConfigError as error:
        raise ConfigError(f"{folder / 'config.json'}: {error}") from error


def fresh_params(model: Encoder, seed: int) -> dict:
    """Untrained parameters, the ones that training with this seed starts from."""
    # They don't depend on the sequence length, so the shortest sequence will do.
    return jax.jit(model.init)(jax.random.key(seed), jnp.zeros((1, 1), jnp.int32))["params"]


def restore_params(folder: RunFolder, model: Encoder, which: str) -> tuple[dict, int]:
    """Parameters of a run's checkpoint and its step, on the first device."""
    if not (folder / "checkpoints").is_dir():
        raise ConfigError(f"no checkpoint in {folder.path}; train first")
    shapes = jax.eval_shape(lambda: fresh_params(model, 0))
    place = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    shapes = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=place), shapes)
    return read_params(folder / "checkpoints", shapes, which)
