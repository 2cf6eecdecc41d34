import jax
import numpy as np
import pytest

from fftnet_jax.errors import ConfigError
from fftnet_jax.training import set_up
from fftnet_jax.training import setup as made_by


def test_a_set_up_writes_nothing_and_holds_no_parameters(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(made_by, "init_state", None)  # would fail if it was called
    before = {id(array) for array in jax.live_arrays()}
    setup = set_up(tiny())
    assert not list(tmp_path.iterdir())
    assert sum(array.size for array in jax.live_arrays() if id(array) not in before) < 100
    assert setup.config.model.vocab_size == setup.dataset.vocab_size > 0
    assert setup.trained is setup.task and setup.tokens_per_step == 64


def test_what_it_holds_trains(tiny):
    setup = set_up(tiny("model.dropout=0"))
    state, batch = setup.initial_state(), next(setup.batches())
    metrics = setup.task.metrics(setup.evaluate(state.params, setup.dataset.validation))
    assert metrics["loss"] == pytest.approx(np.log(setup.dataset.vocab_size), rel=0.2)
    state, first = setup.train_step(state, batch, None)
    for _ in range(4):
        state, last = setup.train_step(state, batch, None)
    assert last["loss"] < first["loss"] and int(state.step) == 5


def test_a_prompt_that_cannot_be_read(tiny):
    with pytest.raises(ConfigError, match=r"sample\.prompt: .*'X'"):
        set_up(tiny("sample.prompt=X"))
