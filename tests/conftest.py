import os
import random
from pathlib import Path

import hypothesis
import jax
import pytest

hypothesis.settings.register_profile("short", max_examples=8, deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("short")

PURE = ("spectral", "mixers", "models", "interop")  # folders of pure computation: many small programs, each run once


@pytest.fixture(autouse=True)
def pure_computation(request):
    """No silent broadcast of ranks, no silent mix of dtypes."""
    if request.path.relative_to(Path(__file__).parent).parts[0] not in PURE:
        yield
        return
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture(scope="session", autouse=True)
def compiled_programs(tmp_path_factory):
    """Compile without optimising, in subprocesses too, and share what is compiled between them, workers and runs."""
    base = tmp_path_factory.getbasetemp()
    settings = {
        "jax_disable_most_optimizations": True,
        "jax_compilation_cache_dir": str((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "jax"),
        "jax_persistent_cache_min_compile_time_secs": 0.05,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    for name, value in settings.items():
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)
    # Where Python is told to write no bytecode, each subprocess would compile JAX's sources for seconds.
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
        os.environ["PYTHONPYCACHEPREFIX"] = settings["jax_compilation_cache_dir"] + "-bytecode"


EXPERIMENT = """
from fftnet_jax.config import default_config


def get_config():
    config = default_config()
    config.data.text_file = {text!r}
    config.data.length = 16
    config.data.batch_size = 4
    config.model.width = 16
    config.model.num_layers = 1
    config.model.ffn_width = 16
    config.model.filter_modes = 4
    config.model.num_heads = 2
    config.model.window = 4
    config.model.dropout = 0.1
    config.training.num_steps = 40
    config.training.eval_every = 15
    config.training.checkpoint_every = 10
    config.training.log_every = 2
    config.training.histogram_every = 20
    config.training.warmup_steps = 5
    config.training.learning_rate = 0.01
    config.sample.max_new_tokens = 6
    return config
"""


@pytest.fixture(scope="session")
def text_file(tmp_path_factory):
    """A few thousand characters, some of several bytes."""
    words = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "two", "rats;", "ROMEO:", "aye,", "é", "ü.\n"]
    rng = random.Random(0)
    file = tmp_path_factory.mktemp("text") / "text.txt"
    file.write_text(" ".join(rng.choice(words) for _ in range(800)), encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def experiment(text_file):
    """An experiment file of a run that takes a second, compilation apart."""
    file = text_file.with_name("tiny.py")
    file.write_text(EXPERIMENT.format(text=str(text_file)))
    return str(file)


@pytest.fixture(scope="session")
def tiny(experiment):
    """`tiny("training.num_steps=3")`: the configuration of the tiny experiment with overrides."""
    from fftnet_jax.config import load_config

    return lambda *overrides: load_config(experiment, overrides)


@pytest.fixture(scope="session")
def trained_alone(tiny, tmp_path_factory):
    """`trained` without dropout, which each device draws for itself, with rows for 8 devices. To be read, not changed.

    The fixture's value: the folder, and the overrides.
    """
    from fftnet_jax.training import train

    folder, overrides = tmp_path_factory.mktemp("trained_alone") / "run", ("data.batch_size=8", "model.dropout=0.0")
    train(tiny(*overrides), folder)
    return folder, overrides


@pytest.fixture(scope="session")
def trained(tiny, tmp_path_factory):
    """The folder of the tiny experiment, trained without disturbance. To be read, not changed."""
    from fftnet_jax.training import train

    folder = tmp_path_factory.mktemp("trained") / "run"
    train(tiny(), folder)
    return folder
