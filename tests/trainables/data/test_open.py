import numpy as np
import pytest

from trainables.data.open import open_data


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


def test_errors_name_what_is_wrong(toy):
    with pytest.raises(ValueError, match="dataset 'tyo' is unknown, did you mean 'toy'\\? Known: amazon"):
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
