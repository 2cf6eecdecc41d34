"""Write `tests/golden/teacher/smollm2.npz`: what PyTorch makes of some texts with SmolLM2-135M-Instruct's GGUF file.

    pip install -e '.[peers]' && python tests/golden/write_smollm2.py

For text number i: `text_i`, its token ids `ids_i` (N,), and of the logits after each token the highest `top_i` (N,),
the log-sum-exp `lse_i` (N,) and the gap `gap_i` (N,) between the two highest. Weights and tokenizer are read from the
file by transformers; to its tokenizer, which lacks that step, single digits are added, as in SmolLM2's tokenizer.json.
"""

from pathlib import Path

import numpy as np
import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from fftnet_jax.interop.smollm2 import smollm2_path

FILE = Path(__file__).parent / "teacher" / "smollm2.npz"
TEXTS = (
    """The harbour had been quiet all winter. Every morning the old keeper walked out to the end of the stone pier, lit
his pipe, and counted the boats that had not come home. "They will be back before the ice melts," he told anyone who
asked, though nobody in the village had asked him for years. When the first sail finally appeared, it was not one of
theirs: it was larger, painted black, and it flew a flag that he had only seen once before, as a boy.""",
    '''def merge_sorted(left: list[int], right: list[int]) -> list[int]:
    """Merges two sorted lists."""
    result, i, j = [], 0, 0
    while i < len(left) and j < len(right):
        if left[i] <= right[j]:
            result.append(left[i])
            i += 1
        else:
            result.append(right[j])
            j += 1
    return result + left[i:] + right[j:]
''',
    """Question: A baker sells 48 loaves a day at $3.75 each. On Saturdays she sells 1.5 times as many, and gives every
tenth loaf away for free. How much does she earn in a week of 6 days, Saturday included?
Answer: On 5 days she sells 5 * 48 = <<5*48=240>>240 loaves.
On Saturday she bakes 48 * 1.5 = <<48*1.5=72>>72 loaves, of which 72 / 10 = 7 are free, so 72 - 7 = <<72-7=65>>65 are
sold. She earns (240 + 65) * $3.75 = $<<(240+65)*3.75=1143.75>>1,143.75.
#### 1143.75""",
    """Où est la gare ? Der Zug fährt um 17:45 Uhr von Gleis 12 — „pünktlich“, sagt man. 東京は日本の首都です。
Привет, мир! Η γάτα κοιμάται. ∑ x² ≤ 10⁶ → π ≈ 3.14159, naïve café 🙂👍🏽.""",
    """The mitochondrion is an organelle found in the cells of most eukaryotes. Mitochondria use aerobic respiration to
generate adenosine triphosphate, which is used throughout the cell as a source of chemical energy. They were
discovered by Albert von Kölliker in 1857 in the voluntary muscles of insects.

1. What do mitochondria produce?
2. Who discovered them, and when?
""",
)


def main() -> None:
    path = smollm2_path()
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).backend_tokenizer
    digits, bytes_ = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, bytes_])
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()
    arrays = {}
    for index, text in enumerate(TEXTS):
        ids_N = np.array(tokenizer.encode(text, add_special_tokens=False).ids, np.int32)
        with torch.inference_mode():
            logits_NV = model(torch.from_numpy(ids_N[None]).long()).logits[0]
        highest_N2, places_N2 = logits_NV.topk(2)
        arrays |= {
            f"text_{index}": text,
            f"ids_{index}": ids_N,
            f"top_{index}": places_N2[:, 0].numpy().astype(np.int32),
            f"lse_{index}": logits_NV.logsumexp(dim=1).numpy(),
            f"gap_{index}": (highest_N2[:, 0] - highest_N2[:, 1]).numpy(),
        }
        print(f"{len(ids_N)} tokens, smallest gap {arrays[f'gap_{index}'].min():.1e}")
    np.savez_compressed(FILE, **arrays)


if __name__ == "__main__":
    main()
