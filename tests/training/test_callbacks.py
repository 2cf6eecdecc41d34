from types import SimpleNamespace

import pytest

from fftnet_jax.errors import Diverged
from fftnet_jax.runs.checkpoints import Checkpoints
from fftnet_jax.runs.folder import RunFolder
from fftnet_jax.training import Callback, loop, train
from fftnet_jax.training.callbacks import pictures
from fftnet_jax.training.clock import Clock
from fftnet_jax.training.run import Run

SHORT = ("training.num_steps=4", "training.log_every=2", "training.eval_every=3", "training.checkpoint_every=0")


class Told(Callback):
    """Writes down what it is told, and what other things happen meanwhile."""

    def __init__(self):
        self.story = []

    def before_step(self, run, step, batch):
        self.story.append(f"before {step}")

    def after_step(self, run, done):
        self.story.append(f"after {done.step}")

    def report(self, run, done):
        facts = {"row": done.tokens_per_second, "validation": done.validation, "save": done.save}
        self.story.append(f"report {done.step}: {', '.join(name for name, fact in facts.items() if fact)}")

    def after_run(self, run, figures):
        self.story.append(f"end: {figures['split']}")

    def close(self):
        self.story.append("close")


def test_what_is_told_and_when(tiny, tmp_path):
    told = Told()
    train(tiny(*SHORT), tmp_path / "run", callbacks=[told])
    assert told.story == [
        "before 1",
        "before 2",
        "after 1",
        "before 3",
        "after 2",  # while the third step is under way
        "report 2: row",
        "after 3",  # at once: it is validated
        "report 3: row, validation",
        "before 4",
        "after 4",
        "report 4: row, validation, save",
        "end: test",
        "close",
    ]


def test_a_row_before_its_picture_and_the_checkpoint_last(tiny, tmp_path, monkeypatch):
    told = Told()

    def note(owner, name, word):
        method = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *args, **kw: (told.story.append(word), method(*args, **kw))[1])

    note(RunFolder, "add_metrics", "row")
    note(pictures, "plot_loss", "picture")
    note(Checkpoints, "save", "checkpoint")
    note(Run, "validate", "validation")
    train(tiny("training.num_steps=1", *SHORT[1:]), tmp_path / "run", callbacks=[told])
    assert told.story == [
        *("before 1", "after 1", "validation", "row", "picture", "checkpoint", "report 1: row, validation, save"),
        *("picture", "end: test", "close"),
    ]


def test_a_run_that_diverged_is_not_evaluated_and_all_are_closed(tiny, tmp_path):
    told, hopeless = Told(), ("training.learning_rate=1e30", "training.clip_norm=0", "training.max_skipped=1")
    with pytest.raises(Diverged, match="up to step 2"):
        train(tiny(*hopeless, *SHORT[:3], "training.eval_every=2"), tmp_path / "run", callbacks=[told])
    assert told.story == ["before 1", "before 2", "after 1", "close"]
    assert not (tmp_path / "run/metrics.jsonl").exists()


def test_a_checkpoint_between_rows_has_none():
    told, config = Told(), SimpleNamespace(training=SimpleNamespace(log_every=20))
    run = SimpleNamespace(setup=SimpleNamespace(config=config), clock=Clock(0))
    loop.report(run, [told], loop.Report(7, {}, {}), save=True)
    assert told.story == ["after 7", "report 7: save"]
