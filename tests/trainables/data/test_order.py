import numpy as np
import pytest

from trainables.data.data import Data
from trainables.data.order import eval_batches, global_batches
from trainables.data.views import View
from trainables.task import Task


def data_of(num_rows, *, lengths=None, num_val=0):
    rows = {"train": np.arange(num_rows), "val": np.arange(num_rows, num_rows + num_val)}
    total = num_rows + num_val
    return Data(
        task=Task(kind="regression"), ids=[str(row) for row in range(total)], labels=np.zeros(total, np.float32),
        rows=rows, clean=View(), augmented=None, max_text_len=64, lengths=lengths,
    )  # fmt: skip


def lengths_of(num_rows):
    return np.random.default_rng(0).integers(3, 60, num_rows)


@pytest.mark.parametrize("has_lengths", [False, True])
@pytest.mark.parametrize(("num_rows", "batch_size"), [(1, 4), (7, 8), (8, 8), (9, 8), (1000, 7), (2000, 16), (3, 1)])
def test_an_epoch_is_a_permutation_in_even_batches(num_rows, batch_size, has_lengths):
    data = data_of(num_rows, lengths=lengths_of(num_rows) if has_lengths else None)
    batches = global_batches(data, batch_size=batch_size, seed=1, epoch=1)
    assert sorted(np.concatenate(batches)) == list(range(num_rows))
    assert len(batches) == -(-num_rows // batch_size)
    sizes = {len(batch) for batch in batches}
    assert max(sizes) <= batch_size and max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("has_lengths", [False, True])
def test_order_is_a_function_of_seed_and_epoch(has_lengths):
    data = data_of(500, lengths=lengths_of(500) if has_lengths else None)

    def order(seed, epoch):
        return np.concatenate(global_batches(data, batch_size=8, seed=seed, epoch=epoch)).tolist()

    assert order(1, 1) == order(1, 1)
    assert order(1, 1) != order(1, 2) != order(2, 1) != order(1, 1)
    assert np.array_equal(data.rows["train"], np.arange(500))  # drawn from, not shuffled itself


def test_buckets_reduce_padding():
    lengths = lengths_of(3000)

    def padding(data):
        batches = global_batches(data, batch_size=16, seed=1, epoch=1)
        return sum(len(batch) * lengths[batch].max() - lengths[batch].sum() for batch in batches)

    assert padding(data_of(3000, lengths=lengths)) < padding(data_of(3000)) / 5


def test_long_and_short_batches_come_mixed():
    data = data_of(3000, lengths=lengths_of(3000))
    assert data.lengths is not None
    means = [data.lengths[batch].mean() for batch in global_batches(data, batch_size=16, seed=1, epoch=1)]
    assert abs(np.corrcoef(np.arange(len(means)), means)[0, 1]) < 0.3


@pytest.mark.parametrize("world", [1, 2, 3, 8])
@pytest.mark.parametrize("has_lengths", [False, True])
def test_evaluation_serves_each_row_once(world, has_lengths):
    data = data_of(10, num_val=7, lengths=lengths_of(17) if has_lengths else None)
    parts = [eval_batches(data, data.rows["val"], batch_size=2, rank=rank, world=world) for rank in range(world)]
    served = [row for part in parts for batch in part for row in batch]
    assert sorted(served) == list(range(10, 17))
