"""A teacher, ours against transformers on PyTorch: reading prompts, writing shards, loading; float32.

    python -m benchmarks.teacher
    python -m benchmarks.teacher --gsm8k FOLDER --only shards

The teacher is SmolLM2-135M-Instruct. "prefill" gives the logits after each token. "shards" writes top-64 records at
temperature 2 over the whole vocabulary, for GSM8K's first problems, or without `--gsm8k` for random tokens of like
length; PyTorch takes 16 problems at a time in their order, padded to the longest of them. "load" is from the file to
parameters and tokenizer, imports not counted; its peak memory is that of the whole process. transformers reads GGUF
files where `accelerate` is installed.
"""

import importlib.util
import resource
import sys
import tempfile
from functools import partial
from pathlib import Path

import jax
import numpy as np

from benchmarks import command_line
from benchmarks.timing import Case, Contender, benchmark, compiled, cores, nbytes
from fftnet_jax.data import EncodedProblems, ProblemRows, encode_problems, read_problems
from fftnet_jax.distillation import load_teacher, write_shards
from fftnet_jax.distillation.manifest import Settings
from fftnet_jax.distillation.teachers import open_checkpoint

PROMPTS = ((1, 256), (1, 1024), (8, 128))
TOP_K, TEMPERATURE, BATCH = 64, 2.0, 16


def cases(args) -> list[Case]:
    prompts = ((2, 12),) if args.quick else PROMPTS
    texts = _texts(args)
    found = [
        Case(f"prefill of {batch} × {length} tokens", batch * length, _contenders(args, "prefill", (batch, length)))
        for batch, length in prompts
    ]
    written = Case(f"shards of {len(texts)} texts", int(texts.lengths.sum()), _contenders(args, "shards", texts))
    return [*found, written, Case("load", 1, _contenders(args, "load"))]


def _contenders(args, work: str, *sizes) -> dict:
    ours, torch = {
        "prefill": (prefill_contender, torch_prefill_contender),
        "shards": (shards_contender, torch_shards_contender),
        "load": (load_contender, torch_load_contender),
    }[work]
    contenders = {"ours": partial(ours, args.teacher, *sizes)}
    if args.peers and work == "load" and not importlib.util.find_spec("accelerate"):
        print("transformers' own loading is left out: accelerate is not installed")
    elif args.peers:
        contenders["torch"] = partial(torch, args.teacher, *sizes)
    return contenders


def _texts(args) -> ProblemRows:
    """GSM8K problems, or random tokens in their place."""
    count, shortest, longest = (4, 10, 20) if args.quick else (32, 120, 250)
    if args.gsm8k:
        tokenizer = open_checkpoint(args.teacher).tokenizer()
        return ProblemRows(encode_problems(read_problems(args.gsm8k)[0][:count], tokenizer), longest)
    rng = np.random.default_rng(0)
    starts = np.cumsum([0, *rng.integers(shortest, longest, count)])
    vocab_size = open_checkpoint(args.teacher).config["vocab_size"]
    tokens = rng.integers(0, vocab_size, starts[-1], np.int32)
    return ProblemRows(EncodedProblems([None] * count, tokens, starts, starts[:-1]), longest)


def prefill_contender(teacher: str, shape: tuple[int, int]) -> Contender:
    """Logits after each token of (B, N) of them."""
    model, params, _ = load_teacher(teacher)
    ids_BN = np.random.default_rng(0).integers(0, model.config.vocab_size, shape, np.int32)
    return compiled(lambda params, ids_BN: model.apply({"params": params}, ids_BN), params, ids_BN)


def shards_contender(teacher: str, texts: ProblemRows) -> Contender:
    """All records of `texts` in a new folder."""
    model, params, _ = load_teacher(teacher)
    sizes = {"vocab_size": model.config.vocab_size, "length": texts.length, "rows": len(texts), "rows_per_shard": 64}
    settings = Settings("", "", "", "float32", **sizes, top_k=TOP_K, temperature=TEMPERATURE)

    def run():
        with tempfile.TemporaryDirectory() as folder:
            write_shards(Path(folder), settings, texts, model, params, batch_size=BATCH, progress=False)

    return Contender(run, held=nbytes(params))


def load_contender(teacher: str) -> Contender:
    """The file's SHA-256, parameters and tokenizer."""
    return Contender(lambda: jax.block_until_ready(load_teacher(teacher)[1]), held=_resident())


def torch_prefill_contender(teacher: str, shape: tuple[int, int]) -> Contender:
    """As `prefill_contender`, without a cache."""
    torch, model = _torch_model(teacher)
    ids_BN = torch.randint(model.config.vocab_size, shape)

    def run():
        with torch.inference_mode():
            return model(ids_BN, use_cache=False).logits

    return Contender(run, held=_torch_nbytes(model))


def torch_shards_contender(teacher: str, texts: ProblemRows) -> Contender:
    """As `shards_contender`, in an ordinary loop."""
    torch, model = _torch_model(teacher)

    def run():
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
            for start in range(0, len(texts), BATCH):
                rows = np.arange(start, min(start + BATCH, len(texts)))
                real_BN = np.arange(texts.lengths[rows].max()) < texts.lengths[rows, None]
                ids_BN = torch.from_numpy(texts.batch(rows)["inputs"][:, : real_BN.shape[1]]).long()
                mask_BN = torch.from_numpy(real_BN)
                logits_BNV = model(ids_BN, attention_mask=mask_BN, use_cache=False).logits
                np.savez(Path(folder) / f"{start}.npz", **_torch_records(torch, logits_BNV[mask_BN]))

    return Contender(run, held=_torch_nbytes(model))


def torch_load_contender(teacher: str) -> Contender:
    """Parameters and tokenizer by transformers."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = open_checkpoint(teacher).path
    folder, names = (path.parent, {"gguf_file": path.name}) if path.is_file() else (path, {})

    def run():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32", **names)
        return model, AutoTokenizer.from_pretrained(folder, **names) if names else None

    return Contender(run, held=_resident())


def _torch_records(torch, logits_RV) -> dict:
    """What `Manifest.record` holds, of logits (R, V)."""
    lse_R = logits_RV.logsumexp(dim=1)
    logps_RK, ids_RK = logits_RV.topk(TOP_K, dim=1)
    scaled_RV = logits_RV.div_(TEMPERATURE)
    norm_R = scaled_RV.logsumexp(dim=1)
    tail_R = scaled_RV.scatter_(1, ids_RK, -torch.inf).logsumexp(dim=1) - norm_R
    values = {
        "lse": lse_R,
        "norm": norm_R - lse_R / TEMPERATURE,
        "tail": tail_R,
        "logps": logps_RK - lse_R[:, None],
        "ids": ids_RK,
    }
    return {name: value.numpy().astype(np.uint16 if name == "ids" else np.float32) for name, value in values.items()}


def _torch_model(teacher: str):
    """PyTorch, and transformers' model with the weights that our reader gives."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.set_num_threads(cores())
    checkpoint = open_checkpoint(teacher)
    fields = {name: value for name, value in checkpoint.config.items() if value is not None}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**fields))
    state = {name: torch.from_numpy(np.array(checkpoint.read(name), np.float32)) for name in checkpoint.names()}
    missing, extra = model.load_state_dict(state, strict=False)
    if extra or set(missing) - {"lm_head.weight"}:
        raise ValueError(f"transformers names other parameters: {missing}, {extra}")
    return torch, model.eval()


def _torch_nbytes(model) -> int:
    return sum(parameter.nbytes for parameter in model.parameters())


def _resident() -> int:
    """Bytes of this process that are in memory; 0 where the system can't tell."""
    file = Path("/proc/self/statm")
    return int(file.read_text().split()[1]) * resource.getpagesize() if file.exists() else 0


def arguments(parser) -> None:
    parser.add_argument("--teacher", default="smollm2", help="folder or GGUF file of another")
    parser.add_argument("--gsm8k", default="", metavar="DIR", help="folder with GSM8K's train.jsonl and test.jsonl")


def main(argv=None) -> None:
    benchmark("teacher", cases, __doc__, argv, arguments)


if __name__ == "__main__":
    sys.exit(command_line.run(main))
