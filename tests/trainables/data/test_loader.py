import numpy as np
import pytest

from trainables.data.cache.prepare import Ragged, Tokens
from trainables.data.loader import Data, View, eval_batches, global_batches, open_data, pad_tokens, requirements
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


# --- order ---------------------------------------------------------------------------------------
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
    parts = [eval_batches(data, split="val", batch_size=2, rank=rank, world=world) for rank in range(world)]
    served = [row for part in parts for batch in part for row in batch]
    assert sorted(served) == list(range(10, 17))


# --- batches -------------------------------------------------------------------------------------
def test_padding_goes_to_the_longest_of_the_batch():
    tokens = Tokens(ids=Ragged(np.array([5, 6, 7, 8], np.int32), np.array([0, 0, 1, 4])), prefix=[1], suffix=[2], pad=9)
    ids, mask = pad_tokens(tokens, np.array([2, 0, 1]), max_len=4)
    assert ids.tolist() == [[1, 6, 7, 2], [1, 2, 9, 9], [1, 5, 2, 9]]
    assert mask.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]]
    assert tokens.length(4).tolist() == [2, 3, 4] == [len(tokens.encoded(row, 4)) for row in range(3)]
    assert pad_tokens(tokens, np.array([0]), max_len=4)[0].tolist() == [[1, 2]]


def test_a_limit_below_the_specials_leaves_the_specials():
    tokens = Tokens(ids=Ragged(np.array([5, 6], np.int32), np.array([0, 2])), prefix=[1, 1], suffix=[2], pad=0)
    assert tokens.encoded(0, 2) == [1, 1, 2] and tokens.length(2).tolist() == [3]


@pytest.mark.parametrize("family", ["text", "image", "fusion", "lit_tirg"])
@pytest.mark.parametrize("cache_features", [True, False])
def test_a_view_has_inputs_or_features_and_never_both(toy, family, cache_features):
    config = toy(family, cache_features=cache_features, uda={"mode": "fixed"})
    data = open_data(config)
    assert data.augmented is not None
    for view in (data.clean, data.augmented):
        assert view.tokens is None or view.text_features is None
        assert view.images is None or view.image_features is None
    batch = data.batch(np.array([0, 4, 7]), data.clean)  # row 4 has no text
    assert batch.size == 3 and batch.ids == ["row-0", "row-4", "row-7"]
    assert batch.labels.tolist() == data.labels[[0, 4, 7]].tolist()


def test_an_augmented_view_differs_in_what_it_augments_alone(toy):
    for views, other in (("text", "images"), ("image", "tokens")):
        model = {"lock_text": False, "lock_image": False}
        config = toy("fusion", model=model, uda={"mode": "fixed", "views": views, "text_replace": 1.0})
        data = open_data(config)
        assert data.augmented is not None
        assert getattr(data.augmented, other) is getattr(data.clean, other)
        rows = data.rows["train"]
        clean, augmented = data.batch(rows, data.clean), data.batch(rows, data.augmented)
        assert clean.input_ids is not None and augmented.input_ids is not None
        assert clean.pixel_values is not None and augmented.pixel_values is not None
        assert (clean.input_ids.tolist() != augmented.input_ids.tolist()) is (views == "text")
        assert clean.pixel_values.equal(augmented.pixel_values) is (views == "text")


# --- what a user can get wrong -------------------------------------------------------------------
def test_errors_name_what_is_wrong(toy):
    with pytest.raises(ValueError, match="dataset 'tyo' is unknown. Known: .*openclipart.*, toy"):
        open_data(toy("text", dataset="tyo"))
    with pytest.raises(ValueError, match="target 'clas' is unknown for dataset toy. Known: class, many, number"):
        open_data(toy("text", target="clas"))
    with pytest.raises(ValueError, match="uda.views: 'image' augments no input of family 'text'"):
        open_data(toy("text", uda={"mode": "fixed", "views": "image"}))
    with pytest.raises(ValueError, match="max_text_len: 513 is more than the 512 that tiny-bert takes"):
        open_data(toy("text", max_text_len=513))


def test_max_train_rows_draws_from_all_classes_and_leaves_the_other_splits(toy):
    few, some, all_rows = (open_data(toy("text", max_train_rows=number)) for number in (12, 30, None))
    assert len(few.rows["train"]) == 12 and set(few.labels[few.rows["train"]]) == {0, 1, 2}
    assert set(few.rows["train"]) < set(some.rows["train"]) < set(all_rows.rows["train"])
    assert np.array_equal(few.rows["val"], all_rows.rows["val"])
    assert np.array_equal(open_data(toy("text", max_train_rows=12, seed=2)).rows["train"], few.rows["train"])


def test_requirements_ask_for_the_clean_data_first(toy):
    config = toy("fusion", model={"lock_text": False}, uda={"mode": "dynamic"})
    needed = requirements(config)
    described = [(need.modality, need.uses_features, need.view is None) for need in needed]
    assert described == [("text", False, True), ("image", True, True), ("text", False, False), ("image", True, False)]
