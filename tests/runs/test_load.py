import shutil

import jax
import numpy as np
import pytest

from fftnet_jax.errors import ConfigError
from fftnet_jax.runs.opening import fresh_params, load, load_decoder


def test_a_run_opens_from_its_folder_alone(trained, tmp_path, monkeypatch):
    copy = shutil.copytree(trained, tmp_path / "copy")
    monkeypatch.chdir(tmp_path)
    for where in (trained, copy, "copy"):
        run = load(where)
        assert run.tokenizer.decode(run.tokenizer.encode("the cat")) == "the cat"
        assert run.config.model.vocab_size == run.tokenizer.vocab_size
        assert "causal_fftnet" in run.describe()
        assert f"step {run.step}" in run.describe()
    a, b = (jax.tree.leaves(load(where).params) for where in (trained, copy))
    assert all((np.asarray(x) == np.asarray(y)).all() for x, y in zip(a, b, strict=True))


def test_untrained_parameters_where_there_is_no_checkpoint(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    with pytest.raises(ConfigError, match=r"no checkpoint in .*train first"):
        load(tmp_path / "run")
    run = load(tmp_path / "run", untrained=True)
    assert run.step == 0
    assert "untrained" in run.describe()
    fresh = fresh_params(run.model, run.config.seed)
    assert all((a == b).all() for a, b in zip(jax.tree.leaves(run.params), jax.tree.leaves(fresh), strict=True))
    assert load_decoder(tmp_path / "nothing", untrained=True).tokenizer.vocab_size == 256


def test_which_must_be_known(trained):
    with pytest.raises(ConfigError, match="'best' or 'latest', got 'first'"):
        load(trained, "first")
