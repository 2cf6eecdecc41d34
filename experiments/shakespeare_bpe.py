"""Shakespeare's plays in the 100,277 tokens of cl100k_base, with the flagship mixer.

    python train.py --config experiments/shakespeare_bpe.py

Most of the parameters (6.4M) and most of the time is the vocabulary's.
Hardware, wall time and figure reached: not measured yet.
"""

from fftnet_jax.config import default_config


def get_config():
    config = default_config()
    config.data.tokenizer = "tiktoken:cl100k_base"
    config.data.split = (0.96, 0.02, 0.02)
    config.data.length = 64
    config.data.batch_size = 8
    config.model.width = 64
    config.model.ffn_width = 256
    config.model.activation = "gelu_tanh"
    config.training.num_steps = 400
    config.training.eval_every = 200
    config.training.checkpoint_every = 200
    config.training.eval_batch_size = 8
    config.training.optimizer = "muon"
    config.training.learning_rate = 4e-3
    config.training.final_fraction = 0.0
    config.sample.prompt = "ROMEO:\n"
    config.sample.max_new_tokens = 100
    return config
