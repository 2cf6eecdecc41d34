import errno
import os
import threading

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from fftnet_jax.errors import StorageError
from fftnet_jax.training.board import Board


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
    board = Board(tmp_path, 0)
    board.scalars({"step": 1, "train/loss": float("nan"), "val/loss": None})
    board.histograms("parameters", {"w": np.array([np.nan, 1.0]), "b": np.ones(3)}, 1)
    threads = threading.active_count()
    board.close()
    board.close()
    assert threading.active_count() < threads
    tags = {value.tag for event in events_of(tmp_path) for value in event.summary.value}
    assert tags == {"train/loss", "parameters/b"}


def test_resumed_run_hides_what_was_written_after_its_checkpoint(tmp_path):
    for start in (0, 4):
        Board(tmp_path, start).close()
    assert sorted(event.step for event in events_of(tmp_path) if event.HasField("session_log")) == [1, 5]


def test_a_full_disk_is_said_at_the_next_row(tmp_path):
    board = Board(tmp_path, 0)

    def fail():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    writer = threading.Thread(target=fail)
    writer.start()
    writer.join()
    with pytest.raises(StorageError, match=r"TensorBoard's files can't be written in .*: No space left on device"):
        board.check()
    board.close()
