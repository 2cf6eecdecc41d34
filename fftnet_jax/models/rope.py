"""The frequencies of rotary positions, as teachers scale them."""

import math

import numpy as np

from fftnet_jax.models.llama_config import TeacherConfig


def frequencies(config: TeacherConfig) -> np.ndarray:
    """Radians per token for each pair of channels of a head: (head_dim / 2,), float32.

    Source: Su et al. 2021 (arXiv 2104.09864), section 3.3; the scalings are those of Llama 3.1 and of Chen et al. 2023
    (arXiv 2306.15595).
    """
    half, scaling = config.head_dim // 2, config.rope_scaling
    frequency_K = config.rope_theta ** (-np.arange(half) / half)
    if scaling is not None and scaling.kind == "linear":
        frequency_K = frequency_K / scaling.factor
    elif scaling is not None:
        turns_K = frequency_K * scaling.original_length / (2 * math.pi)
        low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
        kept_K = np.clip((turns_K - low) / (high - low), 0, 1)
        frequency_K = frequency_K * (kept_K + (1 - kept_K) / scaling.factor)
    return frequency_K.astype(np.float32)
