import dataclasses

import pytest
import torch

from trainables.batch import Batch, ModelOutput


def batch(*, num_rows: int, length: int, offset: int = 0) -> Batch:
    ids = torch.arange(num_rows * length).reshape(num_rows, length) + 1 + offset
    return Batch(
        input_ids=ids,
        attention_mask=torch.ones(num_rows, length, dtype=torch.int64),
        text_features=ids[..., None].float().expand(-1, -1, 2),
        pixel_values=torch.full((num_rows, 3, 2, 2), float(offset)),
        image_features=torch.full((num_rows, 4), float(offset)),
        numeric=torch.full((num_rows, 2), float(offset)),
        categories=torch.full((num_rows, 1), offset),
        neighbours=ids,
        labels=torch.arange(num_rows) + offset,
        ids=[f"r{offset + row}" for row in range(num_rows)],
    )


def test_slice_takes_the_same_rows_of_everything():
    whole = batch(num_rows=5, length=3)
    part = whole.slice(1, 3)
    assert part.size == 2 and part.ids == ["r1", "r2"] and part.labels.tolist() == [1, 2]
    assert part.input_ids is not None and part.input_ids.tolist() == [[4, 5, 6], [7, 8, 9]]
    assert part.text_features is not None and part.text_features.shape == (2, 3, 2)
    assert whole.slice(3, 99).size == 2


def test_slices_concatenate_to_the_whole():
    whole = batch(num_rows=5, length=3)
    again = whole.slice(0, 2).concat(whole.slice(2, 5))
    for item in dataclasses.fields(Batch):
        mine, theirs = getattr(again, item.name), getattr(whole, item.name)
        assert mine == theirs if item.name == "ids" else torch.equal(mine, theirs)


@pytest.mark.parametrize("short_first", [True, False])
def test_concat_pads_the_shorter_text_under_a_mask_of_zero(short_first):
    short, long = batch(num_rows=2, length=2), batch(num_rows=3, length=4, offset=50)
    first, second = (short, long) if short_first else (long, short)
    both = first.concat(second)
    rows = slice(0, 2) if short_first else slice(3, 5)
    assert both.size == 5 and both.ids == first.ids + second.ids
    assert both.labels.tolist() == first.labels.tolist() + second.labels.tolist()
    assert both.input_ids is not None and both.attention_mask is not None and both.text_features is not None
    assert both.input_ids[rows].tolist() == [[1, 2, 0, 0], [3, 4, 0, 0]]
    assert both.attention_mask[rows].tolist() == [[1, 1, 0, 0]] * 2
    assert both.attention_mask.sum() == 2 * 2 + 3 * 4
    assert both.text_features[rows].tolist() == [[[1, 1], [2, 2], [0, 0], [0, 0]], [[3, 3], [4, 4], [0, 0], [0, 0]]]
    assert both.pixel_values is not None and both.pixel_values.shape == (5, 3, 2, 2)


def test_concat_leaves_pooled_features_and_absent_inputs_alone():
    pooled = Batch(text_features=torch.ones(2, 7), labels=torch.zeros(2, 3), ids=["a", "b"])
    both = pooled.concat(pooled)
    assert both.text_features is not None and both.text_features.shape == (4, 7)
    assert both.labels.shape == (4, 3) and both.input_ids is None and both.attention_mask is None


def test_concat_refuses_what_does_not_fit_together():
    with_text, without = batch(num_rows=1, length=2), Batch(labels=torch.zeros(1), ids=["a"])
    with pytest.raises(AssertionError, match="different inputs"):
        with_text.concat(without)
    unmasked = [Batch(input_ids=torch.ones(1, n, dtype=torch.long), labels=torch.zeros(1), ids=["a"]) for n in (2, 3)]
    with pytest.raises(AssertionError, match="no attention mask"):
        unmasked[0].concat(unmasked[1])
    assert unmasked[0].concat(unmasked[0]).size == 2


def test_to_moves_every_tensor_and_returns_a_new_batch():
    here = batch(num_rows=2, length=3)
    there = here.to("meta", non_blocking=True)
    tensors = [getattr(there, item.name) for item in dataclasses.fields(Batch) if item.name != "ids"]
    assert all(tensor.device.type == "meta" for tensor in tensors)
    assert here.labels.device.type == "cpu" and there.ids == here.ids


def test_batch_has_slots_and_model_output_its_own_dicts():
    with pytest.raises(AttributeError):
        batch(num_rows=1, length=1).lables = torch.zeros(1)  # pyright: ignore[reportAttributeAccessIssue]
    one, other = ModelOutput(torch.zeros(1, 2)), ModelOutput(torch.zeros(1, 2))
    one.losses["kl"] = torch.ones(2)
    assert other.losses == {} and other.features == {}


def test_a_modality_can_be_taken_away():
    whole = batch(num_rows=2, length=3)
    for modality, names in {
        "text": {"input_ids", "attention_mask", "text_features"},
        "image": {"pixel_values", "image_features"},
        "numeric": {"numeric"},
        "categorical": {"categories"},
        "graph": {"neighbours"},
    }.items():
        rest = whole.without(modality)
        assert whole.has(modality) and not rest.has(modality)
        gone = {item.name for item in dataclasses.fields(Batch) if getattr(rest, item.name) is None}
        assert gone == names
