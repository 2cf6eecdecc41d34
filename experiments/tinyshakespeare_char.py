"""Tiny Shakespeare by characters: the flagship (or attention) at 0.8M parameters, context 64, 1.54M tokens.

    python train.py --config experiments/tinyshakespeare_char.py
    python train.py --config experiments/tinyshakespeare_char.py --workdir runs/attention \
        --config.model.mixer=attention

The split (first 90% / last 10%), width, depth, context, batch and steps are nanoGPT's CPU recipe. The
comparison with its learning-rate sweep is `python -m studies.quality`.
Hardware: one core of 2 (AMD EPYC, shared). Wall time: 6.3 min (attention 6.0). Reached, validation loss over
the whole split, mean of three seeds: 1.573 with 839,296 parameters (attention 1.583 with 799,616), 2026-11-21.
"""

from fftnet_jax.config import default_config


def get_config():
    config = default_config()
    config.data.source = "tinyshakespeare"
    config.data.split = (0.9, 0.1)
    config.data.length = 64
    config.data.batch_size = 12
    config.model.activation = "gelu_tanh"
    config.training.num_steps = 2000
    config.training.eval_every = 1000
    config.training.checkpoint_every = 1000
    config.training.eval_batch_size = 256
    config.training.optimizer = "muon"
    config.training.learning_rate = 8e-3
    config.training.final_fraction = 0.0
    config.sample.prompt = "ROMEO:\n"
    return config
