"""Write the tiny teachers in `tests/golden/teacher`: random checkpoints, with PyTorch's logits for some ids.

    pip install -e '.[peers]' && python tests/golden/write_teachers.py

The folders `qwen2` and `llama_bf16` came with the project; the others are made here, by transformers on PyTorch.
"""

from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

FOLDER = Path(__file__).parent / "teacher"
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "max_position_embeddings": 64}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
TEACHERS = {  # name → (family, fields, dtype on disk)
    "qwen2_untied_sharded": (
        "qwen2",
        {"vocab_size": 101, "num_attention_heads": 4, "num_key_value_heads": 1, "tie_word_embeddings": False},
        torch.float16,
    ),
    "llama_scaled_biased": (
        "llama",
        {
            "vocab_size": 97,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 12,
            "attention_bias": True,
            "mlp_bias": True,
            "tie_word_embeddings": False,
            "rope_parameters": LLAMA3,
        },
        torch.float32,
    ),
}


def main() -> None:
    for name, (family, fields, dtype) in TEACHERS.items():
        torch.manual_seed(0)
        config_class, model_class = {
            "qwen2": (Qwen2Config, Qwen2ForCausalLM),
            "llama": (LlamaConfig, LlamaForCausalLM),
        }[family]
        model = model_class(config_class(**SIZES, **fields)).eval()
        with torch.no_grad():
            for parameter in model.parameters():  # biases and norms too, which start at 0 and 1
                parameter.normal_(std=0.3).add_(1.0 if parameter.ndim == 1 and parameter.shape == (32,) else 0.0)
        size = "20KB" if name.endswith("sharded") else "1GB"
        model.to(dtype).save_pretrained(FOLDER / name, max_shard_size=size)
        model = model_class.from_pretrained(FOLDER / name, dtype=torch.float32)  # not what is left of the first one
        ids = np.random.default_rng(0).integers(0, fields["vocab_size"], (2, 40))
        with torch.no_grad():
            logits = model(torch.from_numpy(ids)).logits.numpy()
        np.savez(FOLDER / name / "golden.npz", ids=ids, logits=logits)


if __name__ == "__main__":
    main()
