"""What a run needs at least: never more than it takes, and absurd sizes are one line before anything is made."""

import jax
import jax.numpy as jnp
import optax
import pytest

from fftnet_jax.errors import ConfigError
from fftnet_jax.models import build_model
from fftnet_jax.parallel import memory
from fftnet_jax.parallel.mesh import build_mesh
from fftnet_jax.runs.memory import PROGRAM
from fftnet_jax.training.budget import TOKEN, check_fits, need
from fftnet_jax.training.optimizer import build_optimizer
from fftnet_jax.training.state import state_shapes
from fftnet_jax.training.step import make_train_step

VOCAB = ("model.vocab_size=65", "model.max_length=16")


def compiled_memory(config, mesh):
    """Bytes that the step takes as compiled: arguments, and what it needs beside them."""
    c, t = config, config.training
    model, optimizer = build_model(c.model), build_optimizer(t, optax.constant_schedule(1e-3))
    state = state_shapes(model, optimizer, 0, mesh)
    kinds = {"inputs": jnp.int32, "targets": jnp.int32, "weights": jnp.float32}
    batch = {name: jax.ShapeDtypeStruct((c.data.batch_size, c.data.length), kind) for name, kind in kinds.items()}
    step = make_train_step(model, optimizer, 0, t.accumulation, mesh=mesh)
    found = jax.jit(step, donate_argnums=0).lower(state, batch).compile().memory_analysis()
    return found.argument_size_in_bytes + found.temp_size_in_bytes


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("data.batch_size=64", "model.dropout=0.0", "model.num_layers=3"),
        ("data.batch_size=64", "model.remat=true", "model.num_layers=3", "training.accumulation=4"),
        ("data.batch_size=64", "model.family=encoder", "model.mixer=fourier", "model.ffn_width=0"),
        (
            "data.batch_size=64",
            "model.family=encoder",
            "model.mixer=fourier",
            "model.ffn_width=0",
            "model.block_norm=none",
        ),
        ("data.batch_size=64", "model.family=encoder", "model.mixer=fftnet", "model.dtype=bfloat16"),
        ("model.width=128", "model.mixer=causal_stft,attention", "model.num_layers=2", "training.optimizer=muon"),
        ("model.width=64", "model.vocab_size=5000", "model.tie_head=false"),
    ],
)
def test_step_takes_no_less_than_it_is_said_to_need(overrides, tiny):
    config, mesh = tiny(*VOCAB, *overrides), build_mesh()
    least, taken = need(config, mesh).device, compiled_memory(config, mesh)
    assert 0.1 * taken < least <= taken


def test_what_is_added_up(tiny):
    mesh, base = build_mesh(), need(tiny(*VOCAB), build_mesh())
    batch = need(tiny(*VOCAB, "data.batch_size=400"), mesh)
    assert batch.device - base.device == 396 * 16 * (16 * 4 + 65 * 4) and batch.host - base.host == 396 * 16 * TOKEN
    parts = need(tiny(*VOCAB, "data.batch_size=400", "training.accumulation=100", "training.eval_batch_size=4"), mesh)
    assert parts.device == base.device and parts.host == batch.host
    held_out = need(tiny(*VOCAB, "training.eval_batch_size=400000"), mesh)
    assert held_out.device > 399_000 * 16 * 65 * 4 and held_out.host == 400_000 * 16 * TOKEN + PROGRAM
    layers = need(tiny(*VOCAB, "model.num_layers=1001"), mesh)
    assert layers.host - base.host == 1000 * PROGRAM
    linear = ("model.family=encoder", "model.mixer=fourier", "model.ffn_width=0", "model.block_norm=none")
    one, many = (need(tiny(*VOCAB, *linear, f"model.num_layers={count}"), mesh).device for count in (1, 9))
    assert many == one, "nothing is kept where nothing is curved"


def refused(config, monkeypatch, host=8 * 2**30, device=None):
    monkeypatch.setattr(memory, "host_memory", lambda: host)
    monkeypatch.setattr(memory, "device_memory", lambda _: device)
    with pytest.raises(ConfigError) as info:
        check_fits(config, build_mesh())
    assert "\n" not in str(info.value)
    return str(info.value)


HUGE = 2**31 - 8
WORDS = {
    (
        "model.width=1000000",
    ): "model.width must be lower, got 1000000: parameters, optimiser and one step need at least",
    (f"model.width={HUGE}",): f"model.width must be lower, got {HUGE}: ",
    (f"model.num_layers={HUGE}",): f"model.num_layers must be lower, got {HUGE}: ",
    ("model.num_layers=1000000",): "model.num_layers must be lower, got 1000000: ",
    (f"model.ffn_width={HUGE}",): f"model.ffn_width must be lower, got {HUGE}: ",
    (f"data.batch_size={HUGE}",): f"data.batch_size must be lower, got {HUGE}: ",
    (f"data.length={HUGE}",): f"data.length must be lower, got {HUGE}: ",
    (f"training.eval_batch_size={HUGE}",): f"training.eval_batch_size must be lower, got {HUGE}: ",
    (f"model.vocab_size={HUGE}",): f"the vocabulary of data.tokenizer must be lower, got {HUGE}: ",
    (f"model.vocab_size={HUGE}", "data.text_file=", "data.source=patterns"): "data.vocab_size must be lower",
    ("model.positions=learned", f"model.max_length={HUGE}"): f"model.max_length must be lower, got {HUGE}: ",
    (
        "model.positions=learned",
        f"model.max_length={HUGE}",
        f"data.length={HUGE}",
    ): f"data.length must be lower, got {HUGE}",
    ("model.mixer=causal_stft", f"model.window={HUGE}"): f"model.window must be lower, got {HUGE}: ",
    (f"model.short_filter={HUGE}",): f"model.short_filter must be lower, got {HUGE}: ",
    (f"model.filter_modes={HUGE}",): f"model.filter_modes must be lower, got {HUGE}: ",
    (
        "model.mixer=attention",
        "model.width=1000000",
        "model.num_heads=500000",
    ): "model.width must be lower, got 1000000",
    ("model.width=2000000", "data.batch_size=20000000"): " and ",
}


@pytest.mark.parametrize("overrides", WORDS, ids=" ".join)
def test_absurd_sizes_are_refused_with_the_field(overrides, tiny, monkeypatch):
    message = refused(tiny(*VOCAB[: "model.vocab_size" not in overrides[0]], *overrides), monkeypatch)
    assert WORDS[overrides] in message and message.endswith("GiB of memory, and this host has 8.0 GiB free"), message


def test_fields_of_which_one_would_do(tiny, monkeypatch):
    config = tiny(*VOCAB, "data.batch_size=3200", "data.length=25600")
    message = refused(config, monkeypatch)
    assert message.startswith("data.batch_size or data.length must be lower, got 3200 and 25600: "), message


def test_device_with_memory_of_its_own(tiny, monkeypatch):
    config = tiny(*VOCAB, "model.width=100000")
    message = refused(config, monkeypatch, device=16 * 2**30)
    assert (
        message.startswith("model.width must be lower, got 100000: ")
        and "on each device, which has 16.0 GiB" in message
    )
    message = refused(tiny(*VOCAB), monkeypatch, device=1000)
    assert message.startswith("model.width, model.num_layers or data.batch_size must be lower: "), "nothing stands out"


def test_nothing_is_refused_where_nobody_knows_or_it_fits(tiny, monkeypatch):
    config = tiny(*VOCAB, "model.width=1000000")
    monkeypatch.setattr(memory, "host_memory", lambda: None)
    check_fits(config, build_mesh())
    monkeypatch.setattr(memory, "host_memory", lambda: need(config, build_mesh()).device + 2**30)
    check_fits(config, build_mesh())
