"""How to train."""

from dataclasses import dataclass

from fftnet_jax.config.fields import FIXED, FREE, Section, knob


@dataclass(frozen=True)
class TrainingConfig(Section):
    prefix = "training."

    num_steps: int = knob(2000, "optimiser steps", minimum=1)
    num_epochs: float = knob(0.0, "passes over the training windows; when above 0 it replaces num_steps", minimum=0)
    eval_every: int = knob(250, "steps between validations; 0 for the end only", minimum=0)
    eval_every_epochs: float = knob(0.0, "when above 0 it replaces eval_every", minimum=0)
    checkpoint_every: int = knob(250, "steps between checkpoints; 0 for the end only", minimum=0)
    log_every: int = knob(20, "steps between log lines", minimum=1, resume=FREE)
    histogram_every: int = knob(
        0, "steps between histograms of parameters and gradients; 0 for none", minimum=0, resume=FREE
    )
    eval_batch_size: int = knob(0, "sequences per evaluation batch; 0 takes data.batch_size", minimum=0)
    optimizer: str = knob(
        "adamw", "muon: Muon for matrices in the blocks, AdamW for the rest", choices=("adamw", "muon"), resume=FIXED
    )
    learning_rate: float = knob(1e-3, "peak", above=0)
    schedule: str = knob("cosine", "after warm-up", choices=("cosine", "linear", "exponential", "constant"))
    warmup_steps: int = knob(100, "steps of linear warm-up", minimum=0)
    final_fraction: float = knob(0.1, "cosine and linear: last learning rate over the peak", minimum=0, maximum=1)
    decay_per_epoch: float = knob(0.99, "exponential: factor per epoch", above=0, maximum=1)
    weight_decay: float = knob(0.1, "decoupled, on matrices", minimum=0)
    beta1: float = knob(0.9, "AdamW", minimum=0, below=1)
    beta2: float = knob(0.99, "AdamW", minimum=0, below=1)
    momentum: float = knob(0.95, "Muon", minimum=0, below=1)
    clip_norm: float = knob(1.0, "largest global gradient norm; 0 for no limit", minimum=0)
    accumulation: int = knob(1, "micro-batches a step", minimum=1)
    max_spike: float = knob(
        3.0, "nats above the running mean of the loss from which an update is skipped; 0 for no limit", minimum=0
    )
    max_skipped: int = knob(20, "stop after this many skipped updates in a row: NaN or spikes", minimum=1)
    init_from: str = knob("", "run folder whose best parameters this run starts from")
