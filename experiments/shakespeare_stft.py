"""Characters of Shakespeare's plays with the causal STFT mixer (original B's block, made trainable on a laptop).

    python train.py --config experiments/shakespeare_stft.py

Hartley spectrum, orthonormal FFT and pre-norm blocks: the settings that mend the original's defects. The
original's own are `--config.model.spectrum=real --config.model.spectrum_norm=none --config.model.block_norm=post`.
Hardware: 2 CPU cores (AMD EPYC, shared). Wall time: 1 min 35 s. Reached, 600,384 parameters, 0.61M characters
seen: validation loss 1.775, test loss 1.740 nats per character (2026-11-21).
"""

from fftnet_jax.config import default_config


def get_config():
    config = default_config()
    config.data.split = (0.96, 0.02, 0.02)
    config.data.length = 64
    config.data.batch_size = 16
    config.model.mixer = "causal_stft"
    config.model.window = 8
    config.model.spectrum = "hartley"
    config.model.spectrum_norm = "ortho"
    config.model.width = 96
    config.model.ffn_width = 384
    config.model.activation = "gelu_tanh"
    config.training.num_steps = 600
    config.training.eval_every = 300
    config.training.checkpoint_every = 300
    config.training.eval_batch_size = 64
    config.training.optimizer = "muon"
    config.training.learning_rate = 3e-3
    config.training.final_fraction = 0.0
    config.sample.prompt = "ROMEO:\n"
    return config
