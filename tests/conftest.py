import contextlib
import fcntl
import hashlib
import json
import os
import platform
import random
import shutil
import time
from pathlib import Path

import hypothesis
import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import save_file

from fftnet_jax.distillation.teachers import _name
from fftnet_jax.errors import ConfigError
from fftnet_jax.files import cache_dir, write_atomic
from fftnet_jax.models.llama import Teacher
from fftnet_jax.models.llama_config import read_config

# Eight devices on a busy machine wait long for one another; XLA would end the process after 40 s.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_collective_call_terminate_timeout_seconds=600"
jax.config.update("jax_num_cpu_devices", 8)  # before JAX is used; `devices` shows them
hypothesis.settings.register_profile("short", max_examples=8, deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("short")

DAYS_KEPT = 14  # for which a compiled program that no session asks for is kept
PURE = (
    "ops",
    "spectral",
    "mixers",
    "models",
    "interop",
)  # folders of pure computation


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Each worker a part of the files, so that what a file shares is made once; who is done first helps the others."""
    if getattr(config.option, "numprocesses", None) and config.option.dist in ("no", "load"):
        config.option.dist = "worksteal"


@pytest.fixture(autouse=True)
def pure_computation(request):
    """No silent broadcast of ranks, no silent mix of dtypes."""
    if request.path.relative_to(Path(__file__).parent).parts[0] not in PURE:
        yield
        return
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        yield


every_device = jax.devices


@pytest.fixture(scope="session", autouse=True)
def one_device():
    """As on a machine with one device, until a test asks for more of them with `devices`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "devices", lambda backend=None: every_device(backend)[:1])
        yield


@pytest.fixture
def devices(monkeypatch):
    """`devices(4)`: from here on as on a machine with that many devices, at most 8; gives them."""

    def show(count):
        found = every_device()[:count]
        if len(found) < count:
            pytest.skip(f"{len(found)} devices, not {count}")
        monkeypatch.setattr(jax, "devices", lambda backend=None: found)
        return found

    return show


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory):
    """A folder of this session, the same for all of its workers."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def once(shared_folder):
    """`once("name", make)`: a folder that `make(folder)` fills in one worker for all of them. To be read only."""

    def get(name, make):
        folder, done = shared_folder / name, shared_folder / f"{name}.done"
        with (shared_folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed
                make(folder)
                done.touch()
        return folder

    return get


def kept_programs():
    """Where compiled programs outlive a session, apart by what JAX's own keys leave out: the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else [platform.processor()]
    processor = sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})
    key = "\n".join([jax.__version__, jaxlib.__version__, platform.machine(), *processor])
    return cache_dir() / "tests" / hashlib.sha256(key.encode()).hexdigest()[:16]


def keep_programs(folder, kept):
    """Adds what this session compiled, except what a killed process left half written; drops what nobody wants."""
    from jax._src.compilation_cache import decompress_executable

    for file in folder.glob("*-cache"):
        if file.is_symlink() or (kept / file.name).exists():
            continue
        with contextlib.suppress(Exception):  # of three compressors, each its own
            decompress_executable(file.read_bytes())
            write_atomic(kept / file.name, file.read_bytes())
    for file in kept.glob("*"):
        if time.time() - max(file.stat().st_atime, file.stat().st_mtime) > DAYS_KEPT * 86400:
            file.unlink(missing_ok=True)


@pytest.fixture(scope="session", autouse=True)
def compiled_programs(shared_folder):
    """What is compiled is shared between workers and subprocesses, and kept for the next session."""
    folder, kept = shared_folder / "jax", kept_programs()
    folder.mkdir(exist_ok=True)
    for file in kept.glob("*-cache"):
        with contextlib.suppress(FileExistsError):  # the other worker did it
            (folder / file.name).symlink_to(file)
    settings = {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0.02,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    for name, value in settings.items():
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)
    # Where Python is told to write no bytecode, each subprocess would compile JAX's sources for seconds.
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
        os.environ["PYTHONPYCACHEPREFIX"] = str(shared_folder / "bytecode")
    yield
    keep_programs(folder, kept)


class Compiler:
    """Whether XLA optimises, as it does for users, or spares the time, in subprocesses too.

    JAX's own memory does not tell the two apart: at a change, what was compiled before is forgotten.
    """

    shipped = True

    def set(self, shipped):
        if shipped != self.shipped:
            self.shipped = shipped
            jax.config.update("jax_disable_most_optimizations", not shipped)
            os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(int(not shipped))
            jax.clear_caches()

    @contextlib.contextmanager
    def as_shipped(self):
        before = self.shipped
        self.set(True)
        try:
            yield
        finally:
            self.set(before)


compiler = Compiler()


@pytest.fixture(scope="session")
def as_shipped():
    """`with as_shipped():` for what fixtures compile for tests that are marked so."""
    return compiler.as_shipped


@pytest.fixture(autouse=True)
def optimisation(request):
    """Tests marked `as_shipped` run optimised programs; the others spare that time."""
    compiler.set(request.node.get_closest_marker("as_shipped") is not None)


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
def text_file(once):
    """A few thousand characters, some of several bytes."""
    words = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "two", "rats;", "ROMEO:", "aye,", "é", "ü.\n"]

    def make(folder):
        rng = random.Random(0)
        folder.mkdir()
        (folder / "text.txt").write_text(" ".join(rng.choice(words) for _ in range(800)), encoding="utf-8")

    return once("text", make) / "text.txt"


@pytest.fixture(scope="session")
def experiment(text_file, once):
    """An experiment file of a run that takes a second, compilation apart."""

    def make(folder):
        folder.mkdir()
        (folder / "tiny.py").write_text(EXPERIMENT.format(text=str(text_file)))

    return str(once("experiment", make) / "tiny.py")


@pytest.fixture(scope="session")
def tiny(experiment):
    """`tiny("training.num_steps=3")`: the configuration of the tiny experiment with overrides."""
    from fftnet_jax.config import load_config

    return lambda *overrides: load_config(experiment, overrides)


@pytest.fixture(scope="session")
def trained_with(tiny, once, as_shipped):
    """`trained_with("name", overrides)`: the tiny experiment, trained without disturbance. To be read, not changed."""
    from fftnet_jax.training import train

    def get(name, overrides):
        with as_shipped():
            return once(name, lambda folder: train(tiny(*overrides), folder))

    return get


@pytest.fixture(scope="session")
def trained_alone(trained_with):
    """`trained` without dropout, which each device draws for itself, with rows for 8 devices. To be read, not changed.

    The fixture's value: the folder, and the overrides.
    """
    overrides = ("data.batch_size=8", "model.dropout=0.0")
    return trained_with("trained_alone", overrides), overrides


@pytest.fixture(scope="session")
def trained(trained_with):
    """The folder of the tiny experiment, trained without disturbance. To be read, not changed: see `trained_copy`."""
    return trained_with("trained", ())


@pytest.fixture
def trained_copy(trained, tmp_path):
    """A copy of `trained` for tests that train in it, even those that are refused: they lock the folder."""
    return shutil.copytree(trained, tmp_path / "trained")


@pytest.fixture(autouse=True)
def own_cache(request):
    if request.path.relative_to(Path(__file__).parent).parts[0] in ("data", "tasks", "tokenizers", "interop"):
        request.getfixturevalue("cache")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of the test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("FFTNET_JAX_CACHE", str(folder))
    return folder


@pytest.fixture
def tinyshakespeare():
    """The text of tiny Shakespeare, where a copy lies beside the repository."""
    path = Path(__file__).parents[2] / "shared" / "data" / "tinyshakespeare.txt"
    if not path.is_file():
        pytest.skip("no copy of tiny Shakespeare beside the repository")
    return path.read_bytes()


@pytest.fixture
def refused():
    """Run a call that must raise ConfigError; gives its message, which must be one line."""

    def check(call, *args, **kwargs):
        with pytest.raises(ConfigError) as info:
            call(*args, **kwargs)
        message = str(info.value)
        assert message and "\n" not in message
        return message

    return check


TEACHER = {
    "model_type": "qwen2",
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "vocab_size": 260,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}


def write_teacher(folder, seed=0, scale=0.4, dtype=np.float32, **changes):
    """A folder in Hugging Face's format with random weights."""
    config = {**TEACHER, **changes}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    model = Teacher(read_config(config, "config.json"))
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1), jnp.int32))["params"]
    rng = np.random.default_rng(seed)
    tensors = {}
    for path, leaf in flatten_dict(shapes).items():
        array = rng.normal(scale=scale, size=leaf.shape).astype(dtype)
        tensors[_name(path)] = np.ascontiguousarray(array.T if path[-1] == "kernel" else array)
    save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="session")
def teacher_folder(tmp_path_factory):
    """A tiny Qwen2 of 260 tokens, without a tokenizer: it reads bytes. To be read, not changed."""
    return write_teacher(tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="session")
def problems_folder(tmp_path_factory):
    """GSM8K's two files with a few problems made up."""
    folder = tmp_path_factory.mktemp("problems")
    rng = np.random.default_rng(0)
    for name, count in (("train", 44), ("test", 6)):
        rows = []
        for _ in range(count):
            a, b = rng.integers(1, 60, 2)
            answer = f"{a} + {b} = <<{a}+{b}={a + b}>>{a + b}" + " apples." * int(rng.integers(0, 3))
            rows.append({"question": f"{a} and {b}?", "answer": f"{answer}\n#### {a + b}"})
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


STUDENT = """
from fftnet_jax.config import default_config


def get_config():
    config = default_config()
    config.data.source = "gsm8k"
    config.data.folder = {folder!r}
    config.data.num_problems = 32
    config.data.num_validation = 8
    config.data.tokenizer = "byte"
    config.data.length = 64
    config.data.batch_size = 8
    config.model.width = 16
    config.model.num_layers = 1
    config.model.ffn_width = 16
    config.model.filter_modes = 4
    config.training.num_steps = 6
    config.training.eval_every = 3
    config.training.checkpoint_every = 3
    config.training.log_every = 1
    config.training.warmup_steps = 1
    config.training.learning_rate = 0.01
    config.distillation.teacher = {teacher!r}
    config.distillation.teacher_dtype = "float32"
    config.distillation.rows_per_shard = 5
    config.distillation.teacher_batch_size = 4
    config.sample.max_new_tokens = 4
    return config
"""


@pytest.fixture(scope="session")
def student(problems_folder, teacher_folder, tmp_path_factory):
    """An experiment file: a tiny student of the tiny teacher."""
    file = tmp_path_factory.mktemp("student") / "student.py"
    file.write_text(STUDENT.format(folder=str(problems_folder), teacher=str(teacher_folder)))
    return file
