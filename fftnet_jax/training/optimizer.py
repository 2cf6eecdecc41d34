"""Optax optimisers and learning-rate schedules, as the configuration names them."""

import jax
import optax
import optax.contrib

from fftnet_jax.config import TrainingConfig


def learning_rate_schedule(config: TrainingConfig, num_steps: int, steps_per_epoch: int) -> optax.Schedule:
    """Learning rate by step: linear warm-up, then the decay that the configuration names."""
    c, peak = config, config.learning_rate
    warmup = min(c.warmup_steps, num_steps)
    rest = max(1, num_steps - warmup)
    decays = {
        "cosine": lambda: optax.cosine_decay_schedule(peak, rest, c.final_fraction),
        "linear": lambda: optax.linear_schedule(peak, peak * c.final_fraction, rest),
        # Stepwise, as the originals decay once an epoch.
        "exponential": lambda: optax.exponential_decay(peak, steps_per_epoch, c.decay_per_epoch, staircase=True),
        "constant": lambda: optax.constant_schedule(peak),
    }
    if warmup == 0:
        return decays[c.schedule]()
    # Starts one step into the ramp: a first step of rate zero would be wasted.
    ramp = optax.linear_schedule(peak / warmup, peak, max(1, warmup - 1))
    return optax.join_schedules([ramp, decays[c.schedule]()], [warmup])


def build_optimizer(config: TrainingConfig, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Clipping and AdamW, or Muon on the matrices inside blocks with AdamW on everything else."""
    c = config
    clip = optax.clip_by_global_norm(c.clip_norm) if c.clip_norm else optax.identity()
    adamw = optax.adamw(schedule, b1=c.beta1, b2=c.beta2, weight_decay=c.weight_decay, mask=_matrices)
    if c.optimizer == "adamw":
        return optax.chain(clip, adamw)
    muon = optax.contrib.muon(
        schedule,
        beta=c.momentum,
        weight_decay=c.weight_decay,
        muon_weight_dimension_numbers=_muon_dimensions,
        consistent_rms=0.2,  # updates as large as AdamW's, so that both share one learning rate
    )
    # Optax's Muon brings an AdamW of its own, which would decay vectors too.
    return optax.chain(clip, optax.partition({"muon": muon, "adamw": adamw}, _labels))


def _matrices(params):
    return jax.tree.map(lambda p: p.ndim >= 2, params)


def _labels(params):
    """Muon for the dense kernels in blocks, AdamW for embeddings, heads, filters and vectors."""

    def choose(path, p):
        names = [getattr(key, "key", str(key)) for key in path]
        return "muon" if names[0].startswith("blocks") and names[-1] == "kernel" and p.ndim == 2 else "adamw"

    return jax.tree_util.tree_map_with_path(choose, params)


def _muon_dimensions(params):
    return jax.tree.map(lambda p: optax.contrib.MuonDimensionNumbers((0,), (1,)), params)
