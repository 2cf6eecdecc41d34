"""What model to build. Each mixer that is registered adds its own options; see `fftnet_jax.mixers.base`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fftnet_jax.config.fields import ASK, FIXED, FREE, OpenSection, hint, knob
from fftnet_jax.errors import ConfigError

MIXERS: dict[str, bool] = {}  # name → whether position t depends on positions up to t only; filled by registration
CHECKS: dict[str, Callable] = {}  # name → what a registered mixer says of a configuration that it can't take
SPLIT_CHECKS: dict[str, Callable] = {}  # name → and of a sequence split over so many devices
IMPLEMENTATIONS = ("auto", "reference", "cpu", "tpu", "gpu")  # of the operations; see `fftnet_jax.ops.select`


@dataclass(frozen=True, init=False, eq=False, repr=False)
class ModelConfig(OpenSection):
    """Sizes and choices of a decoder or encoder; see `fftnet_jax.models`."""

    prefix = "model."
    resume = FIXED

    family: str = knob(
        "decoder", "decoder predicts the next token, encoder masked ones", choices=("decoder", "encoder")
    )
    mixer: Any = knob("causal_fftnet", "token mixer, or one per layer", known=MIXERS)  # noqa: RUF009
    vocab_size: int = knob(0, "tokens; 0 takes the tokenizer's", minimum=0)
    width: int = knob(128, "channels D", minimum=1)
    num_layers: int = knob(4, "blocks", minimum=1)
    ffn_width: int = knob(512, "hidden channels of the feed-forward part; 0 leaves it out", minimum=0)
    activation: str = knob(
        "gelu", "of the feed-forward part; gelu is the exact erf form", choices=("gelu", "gelu_tanh", "relu2")
    )
    max_length: int = knob(0, "longest sequence in tokens; 0 takes data.length", minimum=0)
    dropout: float = knob(0.0, "rate", minimum=0, below=1)
    block_norm: str = knob("pre", "where a block normalises", choices=("pre", "post", "both", "none"))
    norm_epsilon: float = knob(1e-5, "added to the variance", above=0)
    final_norm: bool = knob(True, "normalise before the head")
    embedding_norm: bool = knob(False, "normalise after the embedding")
    embedding_scale: bool = knob(False, "multiply token embeddings by sqrt(width)")
    positions: str = knob("none", "position embedding", choices=("none", "learned", "sinusoidal"))
    tie_head: bool = knob(True, "the head reuses the token embedding")
    head_bias: bool = knob(False, "the head has a bias")
    dtype: str = knob("float32", "compute type; parameters and FFTs stay float32", choices=("float32", "bfloat16"))
    remat: bool = knob(False, "recompute blocks in the backward pass to save memory")
    scan_layers: bool = knob(
        False, "equal or repeating layers as one loop: compiling does not grow with depth", resume=FREE
    )
    precision: str = knob(
        "default",
        "of dense layers' products where the device has several; spectral parts choose for themselves",
        choices=("default", "high", "highest"),
        resume=ASK,
    )
    implementation: str = knob(
        "auto",
        "of the operations, to the same numbers; auto takes the one made for the device",
        choices=IMPLEMENTATIONS,
        resume=FREE,
    )

    def __post_init__(self):
        super().__post_init__()
        names = (self.mixer,) if isinstance(self.mixer, str) else self.mixer
        if len(names) not in (1, self.num_layers):
            raise ConfigError(
                f"model.mixer must be one name or model.num_layers ({self.num_layers}) names, got {len(names)}: {names}"
            )
        for name in names:
            if name not in MIXERS:
                raise ConfigError(f"model.mixer must be one of {', '.join(MIXERS)}{hint(name, MIXERS)}, got {name!r}")
            if self.family == "decoder" and not MIXERS[name]:
                raise ConfigError(
                    f"model.mixer {name!r} is bidirectional: in a decoder it would see the tokens it must predict; "
                    f"use 'causal_fftnet', its causal form, or model.family='encoder'"
                )
            CHECKS[name](self)
        if self.positions == "sinusoidal" and self.width % 2:
            raise ConfigError(f"model.width must be even for sinusoidal positions, got {self.width}")
        if self.positions == "learned" and self.vocab_size and not self.max_length:
            raise ConfigError("model.max_length must be at least 1 for learned positions, got 0")

    @property
    def mixers(self) -> tuple[str, ...]:
        """One mixer name per layer."""
        return (
            (self.mixer,) * self.num_layers
            if isinstance(self.mixer, str)
            else self.mixer * (self.num_layers // len(self.mixer))
        )
