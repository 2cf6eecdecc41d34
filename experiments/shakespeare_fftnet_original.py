"""Original A's published setting, as masked-token prediction: FFTNet, width 128, 4 layers, cl100k_base.

    python train.py --config experiments/shakespeare_fftnet_original.py

The original trains the same mixer to predict the next token, which it sees, so that its loss says
nothing about language; here it fills in masked tokens, which it does not see. Everything else is the
published setting: AdamW at 1e-4, ×0.99 per epoch, clip 1, stride-1 windows of 128 tokens, batch 64, 30
epochs. On two CPU cores that would take months (seconds a step, 20,000 steps an epoch); for a look, or on an
accelerator in steps, add `--config.training.num_epochs=0 --config.training.num_steps=N`.
Hardware, wall time and figure reached: not measured yet.
"""

from fftnet_jax.config import default_config


def get_config():
    config = default_config()
    config.seed = 42
    config.data.tokenizer = "tiktoken:cl100k_base"
    config.data.length = 128
    config.data.batch_size = 64
    config.data.split = (0.8, 0.1, 0.1)
    config.model.family = "encoder"
    config.model.mixer = "fftnet"
    config.model.width = 128
    config.model.num_layers = 4
    config.model.filter_width = 512
    config.model.ffn_width = 0
    config.model.block_norm = "both"
    config.model.positions = "sinusoidal"
    config.model.embedding_scale = True
    config.model.tie_head = False
    config.model.head_bias = True
    config.model.dropout = 0.1
    config.training.num_epochs = 30.0
    config.training.eval_every_epochs = 1.0
    config.training.checkpoint_every = 1000
    config.training.eval_batch_size = 16
    config.training.learning_rate = 1e-4
    config.training.weight_decay = 0.01
    config.training.beta2 = 0.999
    config.training.schedule = "exponential"
    config.training.decay_per_epoch = 0.99
    config.training.warmup_steps = 0
    return config
