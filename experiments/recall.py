"""Associative recall over 1,024 tokens: is the global context real?

    python train.py --config experiments/recall.py
    python train.py --config experiments/recall.py --workdir runs/recall_stft \
        --config.model.mixer=causal_stft --config.model.window=64 --config.model.width=32

The first 512 tokens are key-value pairs, 16 keys in random order, each with its own one of 16 values; the
other 512 are keys alone. Held-out sequences ask for the value of the very last token (chance: 0.0625),
512 tokens after the last pair; training sequences ask at every key of the second half. With a window of
64 tokens the STFT reaches back 63, so it must stay at chance.
Hardware: 2 CPU cores (AMD EPYC, shared and busy with other work). Processor time: 10 min. Reached, 423,232
parameters: validation accuracy 0.992, test accuracy 0.984 of 500 sequences each (2026-11-21). The STFT, 83,456
parameters, as many steps: test accuracy 0.044, validation between 0.058 and 0.080, which is chance.
"""

from fftnet_jax.config import default_config


def get_config():
    config = default_config()
    config.data.source = "recall"
    config.data.length = 1024
    config.data.batch_size = 16
    config.data.num_samples = 50_000
    config.data.num_queries = 512
    config.data.split = (0.98, 0.01, 0.01)
    config.model.width = 256
    config.model.num_layers = 1
    config.model.ffn_width = 256
    config.model.activation = "gelu_tanh"
    config.training.num_steps = 300
    config.training.eval_every = 100
    config.training.checkpoint_every = 100
    config.training.learning_rate = 3e-3
    config.training.weight_decay = 0.0
    config.training.warmup_steps = 20
    config.sample.max_new_tokens = 0
    return config
