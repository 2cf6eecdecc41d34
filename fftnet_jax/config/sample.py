"""What is written on the way."""

from dataclasses import dataclass

from fftnet_jax.config.fields import FREE, Section, knob


@dataclass(frozen=True)
class SampleConfig(Section):
    """The text printed at the end of training and written to TensorBoard at each validation."""

    prefix = "sample."
    resume = FREE

    prompt: str = knob("", "text to continue; empty takes the start of the validation text")
    max_new_tokens: int = knob(300, "tokens", minimum=0)
    temperature: float = knob(0.8, "0 is greedy", minimum=0)
    top_k: int = knob(40, "keep the k likeliest tokens; 0 keeps all", minimum=0)
    top_p: float = knob(1.0, "keep the likeliest tokens up to this mass", above=0, maximum=1)
