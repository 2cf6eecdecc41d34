import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_collections import ConfigDict

from fftnet_jax import config as config_module
from fftnet_jax.config import Config, default_config, from_dict, load_config, to_dict
from fftnet_jax.errors import ConfigError

CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "seed": st.integers(0, 2**31 - 1),
        "data": st.fixed_dictionaries(
            {},
            optional={
                "length": st.integers(1, 10**6),
                "batch_size": st.integers(1, 10**4),
                "split": st.sampled_from([(0.5, 0.5), (0.8, 0.1, 0.1), [0.9, 0.1]]),
                "text_file": st.text(max_size=5),
            },
        ),
        "model": st.fixed_dictionaries(
            {},
            optional={
                "mixer": st.sampled_from(["attention", ("causal_stft",) * 4, ["causal_fftnet", "attention"] * 2]),
                "norm_epsilon": st.floats(1e-12, 1.0),
                "remat": st.booleans(),
            },
        ),
        "training": st.fixed_dictionaries({}, optional={"learning_rate": st.floats(1e-9, 10) | st.integers(1, 5)}),
    },
)


@given(CHANGES)
def test_round_trip_through_a_dictionary_json_and_configdict(changes):
    config = from_dict(changes)
    assert from_dict(to_dict(config)) == config
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config
    assert from_dict(ConfigDict(to_dict(config))) == config
    hash(config)


def test_default_is_complete_and_every_knob_is_explained():
    assert from_dict(default_config()) == Config()
    lines = "\n".join(config_module.describe_fields())
    for section in (config_module.DataConfig, config_module.ModelConfig, config_module.TrainingConfig):
        for field in dataclasses.fields(section):
            assert f"--config.{section.prefix}{field.name}=" in lines
            assert field.metadata["help"]


def test_values_past_the_entrance_are_typed():
    config = from_dict({"training": {"learning_rate": 1}, "data": {"split": [0.5, 0.5]}})
    assert type(config.training.learning_rate) is float
    assert config.data.split == (0.5, 0.5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.seed = 1


@pytest.fixture
def overridden(experiment):
    return lambda *overrides: load_config(experiment, overrides)


@pytest.mark.parametrize(
    "override, read",
    [
        ("model.width=24", lambda c: c.model.width == 24),
        ("training.learning_rate=3e-4", lambda c: c.training.learning_rate == 3e-4),
        ("training.learning_rate=1", lambda c: c.training.learning_rate == 1.0),
        ("model.tie_head=false", lambda c: c.model.tie_head is False),
        ("model.tie_head=True", lambda c: c.model.tie_head is True),
        ("data.packing=true", lambda c: c.data.packing is True),
        ("data.loss_on=answer", lambda c: c.data.loss_on == "answer"),
        ("data.split=0.8,0.2", lambda c: c.data.split == (0.8, 0.2)),
        ("data.split=(0.8, 0.1, 0.1)", lambda c: c.data.split == (0.8, 0.1, 0.1)),
        ("sample.prompt=a=b, 1", lambda c: c.sample.prompt == "a=b, 1"),
        ("sample.prompt=", lambda c: c.sample.prompt == ""),
        ("data.text_file=123", lambda c: c.data.text_file == "123"),
        ("model.mixer=attention", lambda c: c.model.mixers == ("attention",)),
        ("model.mixer=('causal_stft',)", lambda c: c.model.mixers == ("causal_stft",)),
        ("seed=7", lambda c: c.seed == 7),
    ],
)
def test_overrides(override, read, overridden):
    assert read(overridden(override))


def test_mixers_per_layer(overridden, tmp_path):
    config = overridden("model.num_layers=2", "model.mixer=causal_fftnet,attention")
    assert config.model.mixers == ("causal_fftnet", "attention")
    file = tmp_path / "hybrid.py"
    file.write_text(
        "from fftnet_jax.config import default_config\ndef get_config():\n    c = default_config()\n"
        "    c.model.num_layers = 2\n    c.model.mixer = ('causal_fftnet', 'attention')\n    return c\n"
    )
    assert load_config(str(file)).model.mixers == ("causal_fftnet", "attention")


@pytest.mark.parametrize(
    "values, words",
    [
        ({"data": 3}, "data must be a mapping"),
        ({"modle": {}}, r"unknown field modle \(did you mean model\?\)"),
        ({"model": {"width": 8.0}}, r"model.width must be of type int, got 8.0 \(float\)"),
        ({"model": {"mixer": ()}}, "model.mixer must be a name"),
        ({"model": {"mixer": ("attention", 3)}}, "model.mixer must be a name"),
        ({"data": {"split": (float("nan"), 0.5)}}, "data.split must be a finite number, got nan"),
        ({"training": {"learning_rate": 10**400}}, "training.learning_rate must be a finite number"),
        ({"training": {"num_steps": 2**31}}, "training.num_steps must be at most"),
        (
            {"model": {"positions": "learned", "max_length": 8}, "data": {"length": 9}},
            r"1..model.max_length \(8\), got 9",
        ),
    ],
)
def test_wrong_values(values, words):
    with pytest.raises(ConfigError, match=words) as info:
        from_dict(values)
    assert "\n" not in str(info.value)


def test_differences_name_field_and_both_values():
    old = to_dict(Config())
    assert config_module.differences(old, to_dict(Config())) == []
    new = to_dict(from_dict({"seed": 3, "model": {"width": 64}}))
    assert config_module.differences(old, new) == ["model.width: 128 there, 64 here", "seed: 0 there, 3 here"]
