"""Characters of Shakespeare's plays with the flagship mixer, for a laptop: the main job.

    python train.py --config experiments/shakespeare.py

Hardware: 2 CPU cores (Intel Xeon, shared). Wall time: 141 s (2026-11-24). Reached: validation loss 1.585, test loss
1.592 nats per character, 2.30 bits per character (2026-11-25).
"""

from fftnet_jax.config import default_config


def get_config():
    config = default_config()
    config.data.split = (0.96, 0.02, 0.02)
    config.data.length = 64
    config.data.batch_size = 16
    config.model.activation = "gelu_tanh"
    config.training.num_steps = 1000
    config.training.eval_every = 500
    config.training.checkpoint_every = 250
    config.training.eval_batch_size = 256
    config.training.optimizer = "muon"
    config.training.learning_rate = 6e-3
    config.training.final_fraction = 0.0
    config.sample.prompt = "ROMEO:\n"
    return config
