from fftnet_jax.config import default_config


def get_config():
    config = default_config()
    config.data.source = "tinyshakespeare"
    config.data.split = (0.9, 0.1)
    config.data.length = 64
    config.data.batch_size = 12
    config.model.activation = "relu2"
    config.training.num_steps = 2000
    config.training.eval_every = 500
    config.training.checkpoint_every = 500
    config.training.eval_batch_size = 256
    config.training.optimizer = "muon"
    config.training.learning_rate = 3e-3
    config.training.final_fraction = 0.0
    config.sample.prompt = "ROMEO:\n"
    return config
