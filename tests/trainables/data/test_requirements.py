import pytest

from trainables.data.requirements import requirements
from trainables.families import FAMILIES


def test_requirements_ask_for_the_clean_data_first(toy):
    config = toy("fusion", model={"lock_text": False}, uda={"mode": "dynamic"})
    needed = requirements(config)
    described = [(need.modality, need.uses_features, need.view is None) for need in needed]
    assert described == [("text", False, True), ("image", True, True), ("text", False, False), ("image", True, False)]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_and_view_fits_pictures_as_it_is_told(toy, family):
    uda = {"mode": "fixed"}
    for given in ({}, {"cache_features": False}):
        config = toy(family, uda=uda, image_fit="pad", **given)
        needed = requirements(config)
        assert {need.image_fit for need in needed if need.modality == "image"} <= {"pad"}
        other = requirements(toy(family, uda=uda, **given))
        assert [a == b for a, b in zip(needed, other, strict=True)] == [need.modality == "text" for need in needed]
    assert family == "text" or any(need.modality == "image" for need in needed)


def test_what_is_reconstructed_raw_is_there_beside_features(toy):
    """The features are the same files as of a model that reconstructs these."""
    given = {"image_decoder": "pixels", "picture_size": 16, "text_decoder": "multinomial"}
    needed, plain = requirements(toy("mvae", model=given, image_size=16)), requirements(toy("mvae", image_size=16))
    assert [(need.modality, need.uses_features) for need in needed] == [
        ("text", True), ("image", True), ("text", False), ("image", False),
    ]  # fmt: skip
    assert [need.features.key for need in needed[:2]] == [need.features.key for need in plain]
    raw = requirements(toy("mvae", model=given, image_size=16, cache_features=False))
    assert [need.uses_features for need in raw] == [False, False]
    with pytest.raises(ValueError, match="model.picture_size: 32 is more than image_size, 16"):
        requirements(toy("mvae", model={"image_decoder": "pixels"}, image_size=16))
