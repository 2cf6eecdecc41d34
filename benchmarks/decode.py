"""Time per generated token, batch 1, greedy, compilation and prefill apart.

    python -m benchmarks.decode

First original B's model (width 256, 4 layers, window 32, 50,257 tokens) from 768 tokens of context on: our
generation against the original's, which recomputes the whole sequence for each token (PyTorch). Then one
step of three mixers in the same decoder (width 256, 4 layers, 256 tokens) after 1,024 and 65,536 tokens. There the
context of attention is a cache filled with random keys and values, which costs a step the same.
"""

import dataclasses
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import command_line
from benchmarks.timing import Case, Contender, benchmark, nbytes
from benchmarks.train_step import TINY, original_b
from fftnet_jax.config import ModelConfig
from fftnet_jax.generation import Sampling, generate
from fftnet_jax.models import Decoder
from fftnet_jax.runs.opening import fresh_params

GREEDY = Sampling(temperature=0.0)
MIXERS = {"ours, flagship": "causal_fftnet", "ours, STFT": "causal_stft", "attention": "attention"}
STEPS = {"causal_fftnet": 256, "causal_stft": 256, "attention": 64}  # tokens in one call, the cache's room for new ones


def cases(args) -> list[Case]:
    contexts = (16, 32) if args.quick else (1024, 65_536)
    return [_original(args, 12 if args.quick else 768), *(_context(args, context) for context in contexts)]


def _original(args, context):
    changes = {**(TINY if args.quick else {}), "dropout": 0.0, "max_length": 2 * context}
    config = dataclasses.replace(original_b().model, **changes)
    contenders = {"ours": partial(generation_contender, config, context)}
    if args.peers:
        contenders["torch original"] = partial(_peer, config, context)
    return Case(f"original B generates after {context} tokens", 1, contenders)


def _context(args, context):
    sizes = {"width": 8, "num_layers": 1} if args.quick else {"width": 256, "num_layers": 4}
    steps = dict.fromkeys(STEPS, 4) if args.quick else STEPS
    contenders = {
        name: partial(step_contender, ModelConfig(mixer=mixer, vocab_size=256, **sizes), context, steps[mixer])
        for name, mixer in MIXERS.items()
    }
    return Case(f"step after {context} tokens", 1, contenders)


def generation_contender(config: ModelConfig, context: int) -> Contender:
    """`generate` after a prompt of `context` tokens; its first token, which has the prefill, is untimed."""
    model, tokens = Decoder(config), context // 2
    params = fresh_params(model, 0)
    prompt_BN = np.random.default_rng(0).integers(0, config.vocab_size, (1, context), np.int32)
    now = {}

    def before():
        now["text"] = generate(model, params, prompt_BN, tokens + 1, GREEDY)
        next(now["text"])

    def run():
        for _ in range(tokens):
            next(now["text"])

    before()
    run()  # compiles
    return Contender(run, tokens, before, nbytes(params))


def step_contender(config: ModelConfig, context: int, steps: int) -> Contender:
    """`steps` greedy steps from a cache that holds `context` tokens, each token fed back."""
    model = Decoder(config)
    params = fresh_params(model, 0)
    variables = {"params": params, **model.apply({"params": params}, method="prepare", mutable=["constants"])[1]}
    full = _full_cache(model, variables, context, steps)
    ids_B = jnp.zeros((1,), jnp.int32)

    def step(variables, ids_B, cache):
        logits_BV, cache = model.apply(variables, ids_B, cache, method="step")
        return logits_BV.argmax(axis=-1).astype(jnp.int32), cache

    step = jax.jit(step, donate_argnums=2).lower(variables, ids_B, full).compile()
    now = {}

    def before():
        now.clear()  # frees the last cache before there is another
        now["ids"], now["cache"] = ids_B, jax.block_until_ready(jax.tree.map(jnp.copy, full))

    def run():
        for _ in range(steps):
            now["ids"], now["cache"] = step(variables, now["ids"], now["cache"])
        jax.block_until_ready(now)

    return Contender(run, steps, before, nbytes((variables, full)))


def _full_cache(model, variables, context, room):
    cache, rng = model.init_cache(1, context + room), np.random.default_rng(0)
    if "attention" in model.config.mixers:  # N² operations of prefill would take minutes

        def fill(path, leaf):
            if path[-1].key == "position":
                return jnp.full_like(leaf, context)
            floating = jnp.issubdtype(leaf.dtype, jnp.floating)
            return jnp.asarray(rng.standard_normal(leaf.shape, np.float32)) if floating else leaf

        return jax.tree_util.tree_map_with_path(fill, cache)
    prefill = jax.jit(lambda variables, ids, cache: model.apply(variables, ids, cache, method="prefill")[1])
    return prefill(variables, rng.integers(0, model.config.vocab_size, (1, context), np.int32), cache)


def _peer(config, context):
    from benchmarks import peers  # needs the extra [peers]

    return peers.generation_contender(config, context)


def main(argv=None) -> None:
    benchmark("decode", cases, __doc__, argv)


if __name__ == "__main__":
    sys.exit(command_line.run(main))
