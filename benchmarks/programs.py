"""What `python -m benchmarks.compile` compiles, for shapes: mixers, attention of others, train and decoding steps."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks.ahead import Work
from benchmarks.experiment_steps import VOCABULARIES, experiment, train_step
from benchmarks.roofline import attention_flops, dense_flops
from fftnet_jax.config import Config, ModelConfig
from fftnet_jax.errors import ConfigError
from fftnet_jax.mixers import build_mixer
from fftnet_jax.models import build_model

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"
MIXERS = (  # name, (B, N, D), options
    ("attention", (8, 1024, 256), {"num_heads": 4}),
    ("causal_fftnet", (8, 1024, 256), {}),
    ("causal_fftnet", (1, 32768, 256), {}),
    ("causal_stft", (8, 1024, 256), {"window": 64}),
    ("causal_stft", (8, 256, 256), {"window": 32}),
    ("fftnet", (64, 128, 128), {}),
    ("fourier", (8, 512, 768), {}),
)
FLASH = ((8, 1024, 256), (1, 32768, 256))
FLAGSHIP = {"vocab_size": 50_257, "width": 768, "num_layers": 12, "ffn_width": 3072, "dtype": "bfloat16"}
TRAINED, DECODED, ROOM = ((8, 2048), (1, 32768)), (1, 8, 32, 64), 4096


@dataclass(frozen=True)
class Program:
    """One line of the table.

    Attributes:
      kind: "mixer", "train" or "decode".
      shape: of a mixer's input; of a batch, (B, N); of a decoding step, (B,).
      build: devices → what is compiled.
      form: of the operations; empty for the chip's.
      forms: kinds of chips that it can be compiled for.
    """

    kind: str
    name: str
    shape: tuple[int, ...]
    dtype: str
    build: Callable[[Mesh], Work]
    form: str = ""
    forms: tuple[str, ...] = ("tpu", "gpu")

    @property
    def title(self) -> str:
        return f"{self.kind} {self.name} {self.shape} {self.dtype}"


def programs(shape: tuple[int, ...] | None = None) -> list[Program]:
    """All of them; with a `shape` (B, N, D) the mixers at that one."""
    if shape:
        options = {name: options for name, _, options in reversed(MIXERS)}
        return [*_mixers([(name, shape, each) for name, each in options.items()]), *_flash([shape])]
    return [*_mixers(MIXERS), *_flash(FLASH), *_train(), *_decode()]


def _mixers(mixers) -> list[Program]:
    found = []
    for name, shape, options in mixers:
        label = name + "".join(f", {key} {value}" for key, value in options.items())
        for form, dtype in (("", "bfloat16"), ("", "float32"), ("reference", "bfloat16")):
            title = label + (", its definition" if form else "")
            found.append(Program("mixer", title, shape, dtype, partial(mixer, name, shape, options, dtype), form))
    return found


def _flash(shapes) -> list[Program]:
    return [
        Program("mixer", f"JAX's flash attention, {shape[2] // 128} heads", shape, "bfloat16", partial(flash, shape),
                forms=("tpu",))
        for shape in shapes if shape[2] % 128 == 0 and shape[1] % 128 == 0
    ]  # fmt: skip


def _train() -> list[Program]:
    found = []
    for name in VOCABULARIES:
        config = experiment(EXPERIMENTS / f"{name}.py")
        configs = {name: config}
        if config.distillation.active and not config.distillation.shards:
            told = dataclasses.replace(config.distillation, shards="shards")
            configs[f"{name}, from shards"] = dataclasses.replace(config, distillation=told)
        for title, one in configs.items():
            shape = one.data.batch_size, one.data.length
            found.append(Program("train", title, shape, one.model.dtype, partial(train_step, one)))
    for shape in TRAINED:
        config = _flagship(*shape)
        found.append(Program("train", "flagship of 125M", shape, config.model.dtype, partial(train_step, config)))
    return found


def _decode() -> list[Program]:
    model = dataclasses.replace(_flagship(1, ROOM).model, max_length=ROOM)
    return [
        Program("decode", "flagship of 124M", (batch,), model.dtype, partial(decoding_step, model, batch))
        for batch in DECODED
    ]


def _flagship(rows: int, length: int) -> Config:
    data = dataclasses.replace(Config().data, batch_size=rows, length=length)
    return dataclasses.replace(Config(), data=data, model=ModelConfig(**FLAGSHIP, scan_layers=True, remat=True))


def mixer(name: str, shape: tuple, options: dict, dtype: str, mesh: Mesh) -> Work:
    """Forward and backward, gradients to parameters and input."""
    family = "decoder" if name not in ("fftnet", "fourier") else "encoder"
    module = build_mixer(name, ModelConfig(mixer=name, family=family, width=shape[-1], dtype=dtype, **options))
    x_BND = jax.ShapeDtypeStruct(shape, dtype)
    params = jax.eval_shape(module.init, jax.random.key(0), x_BND)

    def loss(params, x_BND):
        return jnp.square(module.apply(params, x_BND).astype(jnp.float32)).sum()

    rows, length, width = shape
    each = dense_flops(params) + (attention_flops(length, width) if name == "attention" else 0.0)
    return Work(_placed(jax.value_and_grad(loss, (0, 1)), mesh), (params, x_BND), 3 * rows * length * each)


def flash(shape: tuple, mesh: Mesh) -> Work:
    """JAX's own kernel of causal attention for TPUs, heads of 128 channels, without projections; as `mixer`.

    Its backward kernels say nothing of their FLOPs: seven products, where the forward one has two.
    """
    from jax.experimental.pallas.ops.tpu.flash_attention import flash_attention  # imports no GPU has

    rows, length, width = shape
    heads_BHNK = jax.ShapeDtypeStruct((rows, width // 128, length, 128), jnp.bfloat16)

    def loss(*qkv):
        return jnp.square(flash_attention(*qkv, causal=True, sm_scale=128**-0.5).astype(jnp.float32)).sum()

    product = rows * length * attention_flops(length, width) / 2
    function = _placed(jax.value_and_grad(loss, (0, 1, 2)), mesh)
    return Work(function, (heads_BHNK,) * 3, 6 * product, kernel_flops=9 * product)


def decoding_step(config: ModelConfig, batch: int, mesh: Mesh) -> Work:
    """The next token of each row, greedy, room for `ROOM`; constants of `prepare` are handed in, the cache is donated.

    It must read each weight once, in the model's dtype, and read and write the cache.
    """
    model = build_model(config)
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1), jnp.int32))["params"]
    prepare = partial(model.apply, method="prepare", mutable=["constants"])
    constants = jax.eval_shape(lambda params: prepare({"params": params})[1], params)
    cache, ids_B = jax.eval_shape(lambda: model.init_cache(batch, ROOM)), jax.ShapeDtypeStruct((batch,), jnp.int32)

    def step(variables, ids_B, cache):
        logits_BV, cache = model.apply(variables, ids_B, cache, method="step")
        return logits_BV.argmax(axis=-1).astype(jnp.int32), cache

    weights = jnp.dtype(config.dtype).itemsize * sum(leaf.size for leaf in jax.tree.leaves(params))
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(cache))
    flops = batch * dense_flops(params, config.tie_head)
    arguments = ({"params": params, **constants}, ids_B, cache)
    return Work(_placed(step, mesh, donate_argnums=2), arguments, flops, weights + 2 * held)


def check_shape(shape: list[int]) -> tuple[int, int, int]:
    """Raises ConfigError for a shape that a mixer can't have."""
    if len(shape) != 3 or not all(1 <= size < 2**31 for size in shape) or shape[2] % 4:
        raise ConfigError(
            f"--shape must be rows, tokens and channels, each at least 1, the channels a multiple of 4 (heads), "
            f"got {' '.join(map(str, shape))}"
        )
    return tuple(shape)


def _placed(function: Callable, mesh: Mesh, **options) -> Callable:
    place = NamedSharding(mesh, PartitionSpec())
    return jax.jit(function, in_shardings=place, out_shardings=place, **options)
