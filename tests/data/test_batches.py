import itertools

import numpy as np
import pytest

from fftnet_jax.data.batches import eval_batches, train_batches
from fftnet_jax.data.windows import EvalWindows, TokenWindows
from fftnet_jax.tasks.masked_tokens import MaskedWindows
from fftnet_jax.tasks.recall import RecallRows

PLAIN = TokenWindows(np.arange(50), 4)  # 46 windows; the first input tells which
MASKED = MaskedWindows(PLAIN, 0.3, 99, 0)


def take(iterator, count):
    return [next(iterator) for _ in range(count)]


def same(a, b):
    return all(all(np.array_equal(x[k], y[k]) for k in x) for x, y in zip(a, b, strict=True))


def test_each_epoch_has_every_item_in_an_order_of_its_own():
    iterator = train_batches(PLAIN, 23, seed=0)
    firsts = [batch["inputs"][:, 0] for batch in take(iterator, 6)]
    epochs = [np.concatenate(firsts[i : i + 2]).tolist() for i in (0, 2, 4)]
    assert all(sorted(epoch) == list(range(46)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] and epochs[0] != sorted(epochs[0])


@pytest.mark.parametrize("source", (PLAIN, MASKED), ids=("plain", "masked"))
def test_seed_decides(source):
    a, b, c = (take(train_batches(source, 8, seed), 9) for seed in (3, 3, 4))
    assert same(a, b) and not same(a, c)
    assert all(batch[k].shape == (8, 4) for batch in a for k in ("inputs", "targets", "weights"))


@pytest.mark.parametrize("source", (PLAIN, MASKED), ids=("plain", "masked"))
@pytest.mark.parametrize("done", (0, 1, 7, 13))
def test_state_resumes_at_the_next_batch(source, done):
    iterator = train_batches(source, 8, seed=1)
    take(iterator, done)
    state = iterator.get_state()
    rest = take(iterator, 9)
    fresh = train_batches(source, 8, seed=1)
    fresh.set_state(state)
    assert same(take(fresh, 9), rest)
    iterator.set_state(state)  # and on the same iterator, backwards
    assert same(take(iterator, 9), rest)


def test_masks_change_from_epoch_to_epoch():
    source = MaskedWindows(TokenWindows(np.arange(101), 100), 0.5, 999, 0)  # one window
    a, b = take(train_batches(source, 1, seed=0), 2)
    assert np.array_equal(a["targets"], b["targets"]) and not np.array_equal(a["weights"], b["weights"])


def test_source_smaller_than_a_batch():
    batch = next(train_batches(TokenWindows(np.arange(7), 4), 8, seed=0))  # 3 windows
    assert np.bincount(batch["inputs"][:, 0]).tolist() in ([3, 3, 2], [3, 2, 3], [2, 3, 3])


def test_grain_checkpoint(tmp_path):
    ocp = pytest.importorskip("orbax.checkpoint")
    import grain

    iterator = train_batches(MASKED, 8, seed=2)
    take(iterator, 5)
    with ocp.CheckpointManager(tmp_path) as manager:
        manager.save(5, args=ocp.args.Composite(data=grain.checkpoint.CheckpointSave(iterator)))
        manager.wait_until_finished()
        rest = take(iterator, 4)
        fresh = train_batches(MASKED, 8, seed=2)
        manager.restore(5, args=ocp.args.Composite(data=grain.checkpoint.CheckpointRestore(fresh)))
    assert same(take(fresh, 4), rest)


@pytest.mark.parametrize("batch_size", (1, 4, 10, 30))
def test_eval_batches_are_whole_and_of_one_shape(batch_size):
    source = EvalWindows(np.arange(100, 137), 4)  # 9 windows
    batches = list(eval_batches(source, batch_size))
    assert len(batches) == -(-9 // batch_size)
    assert all(array.shape == (batch_size, 4) for batch in batches for array in batch.values())
    assert [batch["targets"].dtype for batch in batches] == [np.int32] * len(batches)
    targets = itertools.chain(*(batch["targets"][batch["weights"] > 0] for batch in batches))
    assert list(targets) == list(range(101, 137))
    assert same(eval_batches(source, batch_size), batches)


def test_eval_batches_of_recall():
    assert sum(batch["weights"].sum() for batch in eval_batches(RecallRows(7, 16, 2, 2, 0), 4)) == 7
