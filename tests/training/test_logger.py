import threading

import numpy as np
from tensorboardX.proto.event_pb2 import Event

from fftnet_jax.runs.folder import RunFolder
from fftnet_jax.training.logger import Logger


def events_of(folder):
    """Every event in a TensorBoard folder: records of length, CRC, data, CRC."""
    events = []
    for file in sorted((folder / "tensorboard").iterdir()):
        data, place = file.read_bytes(), 0
        while place < len(data):
            size = int.from_bytes(data[place : place + 8], "little")
            events.append(Event.FromString(data[place + 12 : place + 12 + size]))
            place += 16 + size
    return events


def test_tensorboard_holds_scalars_histograms_text_and_pictures(trained):
    steps, kinds = {}, {}
    for event in events_of(trained):
        for value in event.summary.value:
            steps.setdefault(value.tag, set()).add(event.step)
            kinds[value.tag] = value.WhichOneof("value")
    assert steps["train/loss"] == {*range(2, 41, 2), 15}
    assert steps["val/loss"] == steps["val/accuracy"] == {15, 30, 40}
    assert kinds["learning_rate"] == "simple_value"
    histograms = {tag for tag, kind in kinds.items() if kind == "histo"}
    assert "parameters/embeddings/token/embedding" in histograms
    assert "gradients/embeddings/token/embedding" in histograms
    assert steps["parameters/embeddings/token/embedding"] == {20, 40}
    assert kinds["filters"] == "image"
    assert [kind for tag, kind in kinds.items() if tag.startswith("sample")] == ["tensor"]


def test_numbers_that_are_not_finite_are_left_out(tmp_path):
    logger = Logger(RunFolder(tmp_path), 10, 0)
    logger.write({"step": 1, "train/loss": float("nan"), "val/loss": None})
    logger.histograms("parameters", {"w": np.array([np.nan, 1.0]), "b": np.ones(3)}, 1)
    threads = threading.active_count()
    logger.close()
    logger.close()
    assert threading.active_count() < threads
    tags = {value.tag for event in events_of(tmp_path) for value in event.summary.value}
    assert tags == {"train/loss", "parameters/b"}


def test_resumed_run_hides_what_was_written_after_its_checkpoint(tmp_path):
    for start in (0, 4):
        logger = Logger(RunFolder(tmp_path), 10, start)
        logger.close()
    assert sorted(event.step for event in events_of(tmp_path) if event.HasField("session_log")) == [1, 5]


def test_speed_leaves_pauses_out(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("fftnet_jax.training.logger.time.monotonic", lambda: now[0])
    logger = Logger(RunFolder(tmp_path), 10, 0)
    now[0] = 2.0
    with logger.pause():
        now[0] = 50.0
    now[0] = 52.0
    assert logger.speed(4, 100) == 100.0
    now[0] = 53.0
    assert logger.speed(6, 100) == 200.0
    logger.close()
