"""Original B's from-scratch setting: GSM8K, 2,000 problems of at most 256 tokens, width 256, 4 layers, window 32.

    python train.py --config experiments/gsm8k_scratch.py

GPT-2's tokens, as there, where tiktoken can load them, else SmolLM2's; a line on standard error says which. The rest
is the published setting (AdamW at 1e-4, batch 8, 25 epochs), but for two things: the 200 held-out problems are the
training file's next ones, with another 200 of the test file for the final figure, and numbers are float32, which
`--config.model.dtype=bfloat16` changes on an accelerator. The original overfits after epoch 10; the best is kept.
Most of the time is the vocabulary's: `--config.data.reduce_vocabulary=True` leaves out the tokens that GSM8K lacks.
Hardware, wall time and figure reached: not measured yet.
"""

import sys

from fftnet_jax.config import default_config
from fftnet_jax.errors import ConfigError
from fftnet_jax.tokenizers import get_tokenizer


def get_config():
    config = default_config()
    config.data.source = "gsm8k"
    config.data.num_problems = 2000
    config.data.num_validation = 200
    config.data.num_test = 200
    config.data.tokenizer = _tokenizer()
    config.data.length = 256
    config.data.batch_size = 8
    config.model.mixer = "causal_stft"
    config.model.width = 256
    config.model.num_layers = 4
    config.model.ffn_width = 1024
    config.model.window = 32
    config.model.positions = "learned"
    config.model.block_norm = "post"
    config.model.norm_epsilon = 1e-12
    config.model.embedding_norm = True
    config.model.final_norm = False
    config.training.num_epochs = 25.0
    config.training.eval_every_epochs = 1.0
    config.training.learning_rate = 1e-4
    config.training.schedule = "linear"
    config.training.final_fraction = 0.0
    config.training.warmup_steps = 100
    config.training.weight_decay = 0.01
    config.training.beta2 = 0.999
    config.sample.max_new_tokens = 200
    return config


def _tokenizer() -> str:
    try:
        get_tokenizer("tiktoken:gpt2")
    except ConfigError as error:
        print(f"tokens: SmolLM2's, because GPT-2's can't be had: {error}", file=sys.stderr)
        return "gguf:smollm2"
    print("tokens: GPT-2's", file=sys.stderr)
    return "tiktoken:gpt2"
