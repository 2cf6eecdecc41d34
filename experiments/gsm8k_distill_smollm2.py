"""GSM8K answers learnt from SmolLM2-135M-Instruct, for 2 CPU cores: cross-entropy and the teacher's distribution.

    python -m fftnet_jax.distillation.shards --config experiments/gsm8k_distill_smollm2.py
    python train.py --config experiments/gsm8k_distill_smollm2.py

Hardware: 2 CPU cores (Intel Xeon, other work beside). Wall time: 6 min, and 11 min for the shards (360,611 tokens).
Reached (2026-11-24): validation loss 2.229 nats per answer token over a vocabulary of 13,737; test loss over whole
answers 2.217, from scratch 2.255 (docs/distillation.md).
"""

from fftnet_jax.config import default_config


def get_config():
    config = default_config()
    config.data.source = "gsm8k"
    config.data.num_problems = 2000
    config.data.loss_on = "answer"
    config.data.tokenizer = "gguf:smollm2"
    config.data.reduce_vocabulary = True
    config.data.length = 256
    config.data.batch_size = 16
    config.training.num_epochs = 4.0
    config.training.eval_every_epochs = 1.0
    config.training.optimizer = "muon"
    config.training.learning_rate = 0.012
    config.distillation.teacher = "smollm2"
    config.distillation.teacher_dtype = "float32"
    config.distillation.temperature = 1.0
    config.distillation.shards = "shards/gsm8k_smollm2"
    config.sample.max_new_tokens = 150
    return config
