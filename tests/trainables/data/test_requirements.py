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
