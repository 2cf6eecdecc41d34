"""Associative recall over 1,024 tokens: is the global context real?

    python train.py --config experiments/recall.py
    python train.py --config experiments/recall.py --workdir runs/recall_stft \
        --config.model.mixer=causal_stft --config.model.window=64 --config.training.num_steps=200

Sixteen key-value pairs stand at random places of the first 512 tokens, blanks all around; the last token
repeats one key, and its value, one of 16, is to be predicted (chance: 0.0625). Training sequences ask 64
times in their second half, held-out ones once, at the end. With windows of 64 tokens and two layers the
STFT reaches back 126 tokens, so it must stay at chance.
Hardware, wall time and figure reached: @RECALL@
"""

from fftnet_jax.config import default_config


def get_config():
    config = default_config()
    config.data.source = "recall"
    config.data.length = 1024
    config.data.batch_size = 16
    config.data.num_samples = 100_000
    config.data.num_queries = 64
    config.data.split = (0.98, 0.01, 0.01)
    config.model.num_layers = 2
    config.model.ffn_width = 128
    config.training.num_steps = 1000
    config.training.eval_every = 100
    config.training.checkpoint_every = 100
    config.training.optimizer = "muon"
    config.training.learning_rate = 5e-3
    config.training.weight_decay = 0.0
    config.training.warmup_steps = 20
    config.sample.max_new_tokens = 0
    return config
