"""A decoder of a billion parameters at 131,072 tokens of context, for `python -m benchmarks.scale`: never trained here.

python -m benchmarks.scale --config benchmarks/configs/one_billion.py --chip v5e --devices 256
"""

from fftnet_jax.config import default_config


def get_config():
    config = default_config()
    config.data.length = 131_072
    config.data.batch_size = 16
    config.model.vocab_size = 50_304  # GPT-2's 50,257, filled up to a multiple of 128
    config.model.width = 2048
    config.model.num_layers = 18
    config.model.ffn_width = 8192
    config.model.filter_horizon = 131_072
    config.model.dtype = "bfloat16"
    config.model.remat = True
    config.model.scan_layers = True
    config.mesh.fsdp = 16
    config.mesh.model = 16
    return config
