import numpy as np
import optax
import pytest

from fftnet_jax.config import DataConfig, MeshConfig, ModelConfig, describe_fields, from_dict
from fftnet_jax.config.data import SOURCES
from fftnet_jax.data.splits import split_rows
from fftnet_jax.data.windows import Source
from fftnet_jax.errors import ConfigError
from fftnet_jax.models import build_model
from fftnet_jax.parallel.mesh import build_mesh
from fftnet_jax.runs.opening import fresh_params
from fftnet_jax.tasks import Task, load_dataset, register, task_for
from fftnet_jax.tasks.base import _TASKS
from fftnet_jax.tasks.gsm8k import GSM8K
from fftnet_jax.tasks.language_modelling import LanguageModelling
from fftnet_jax.tasks.masked_tokens import MaskedTokens
from fftnet_jax.tasks.recall import Recall
from fftnet_jax.training.evaluation import make_evaluate
from fftnet_jax.training.step import make_gradients


class Labelled(Source):
    """Rows of random tokens, one label each, and three numbers a token, which nothing reads."""

    vocab_size = 5

    def __len__(self):
        return 20

    def batch(self, indices, rng=None):
        rngs = [np.random.default_rng(int(i)) for i in indices]
        inputs = np.stack([rng.integers(0, 5, 6, dtype=np.int32) for rng in rngs])
        return {
            "inputs": inputs,
            "labels": inputs[:, 0],
            "weights": np.ones(len(inputs), np.float32),
            "more": np.zeros((*inputs.shape, 3), np.float32),
        }


class Classifier(Task):
    def load(self, data, seed=0):
        return split_rows(data, seed, {}, Labelled(), Labelled())

    def loss(self, model, params, batch, **options):
        logits_BV = model.apply({"params": params}, batch["inputs"], **options)[:, -1]
        losses_B = optax.softmax_cross_entropy_with_integer_labels(logits_BV, batch["labels"])
        return {"loss": (losses_B * batch["weights"]).sum(), "count": batch["weights"].sum()}


@pytest.fixture
def registered():
    yield register("labels")(Classifier)
    del _TASKS["labels"], SOURCES["labels"]


def test_a_registered_task_is_a_source(registered):
    assert "| labels" in next(line for line in describe_fields() if "data.source" in line)
    config = from_dict({"data": {"source": "labels", "num_samples": 20}, "model": {"family": "encoder"}})
    assert type(task_for(config.data, config.model.family)) is Classifier, "masked only if it says so"
    assert len(load_dataset(config.data).train) == 18


def test_a_task_that_is_not_registered_is_refused(refused):
    assert "data.source must be one of" in (message := refused(DataConfig, source="labels")) and "'labels'" in message


def test_a_check_of_a_task_is_one_of_the_configuration(registered, refused, monkeypatch):
    def check(data, family):
        raise ConfigError(f"no {data.source} for {family}s")

    monkeypatch.setitem(SOURCES, "labels", check)
    assert refused(from_dict, {"data": {"source": "labels"}}) == "no labels for decoders"
    from_dict({"data": {"source": "labels", "text_file": "a.txt"}})  # what replaces the source is another task


@pytest.mark.parametrize(
    "data, family, kind, inner",
    [
        ({"source": "tinyshakespeare"}, "decoder", LanguageModelling, None),
        ({"source": "recall"}, "decoder", Recall, None),
        ({"source": "recall", "text_file": "a.txt"}, "decoder", LanguageModelling, None),
        ({"source": "recall", "text_file": "a.txt"}, "encoder", MaskedTokens, LanguageModelling),
        ({"source": "gsm8k"}, "decoder", GSM8K, None),
        ({"source": "gsm8k"}, "encoder", MaskedTokens, GSM8K),
    ],
)
def test_which_task_a_configuration_means(data, family, kind, inner):
    task = task_for(DataConfig(**data), family)
    assert type(task) is kind and type(getattr(task, "task", None)) is (inner or type(None))


def test_recall_is_no_encoders_task(refused):
    message = refused(task_for, DataConfig(source="recall"), "encoder")
    assert message == "data.source 'recall' needs model.family 'decoder', got 'encoder'"


@pytest.mark.parametrize("count, batch_size", [(1, 20), (1, 3), (8, 16)])
def test_rows_of_any_shape_count_once_on_any_devices(count, batch_size, devices):
    """Labels have one axis, other arrays three; 16 and 3 leave rows of zeros in the last batch."""
    mesh = build_mesh(MeshConfig(), devices(count))
    sizes = {"vocab_size": 5, "width": 8, "num_layers": 1, "ffn_width": 8, "num_heads": 2, "mixer": "attention"}
    model = build_model(ModelConfig(**sizes))
    params, source = fresh_params(model, 0), Labelled()
    everything = source.batch(np.arange(20))
    wanted = Classifier().loss(model, params, everything)
    sums = make_evaluate(model, batch_size, mesh, Classifier())(params, source)
    assert sums["count"] == 20
    np.testing.assert_allclose(sums["loss"], wanted["loss"], rtol=1e-5)
    assert Classifier().figures(sums, None) == {"loss": sums["loss"] / 20}
    _, trained = make_gradients(model, 0, 2, Classifier(), mesh)(params, source.batch(np.arange(16)), 0)
    assert trained["count"] == 16
