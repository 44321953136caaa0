import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from trainables.augment.images import augment_images


def pictures(num: int = 12) -> torch.Tensor:
    return torch.randint(0, 256, (num, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_images_keep_shape_and_type_and_the_input():
    images = pictures()
    before = images.clone()
    new = augment_images(images, ops=2, magnitude=9, seed=1)
    assert new.shape == images.shape and new.dtype == torch.uint8 and torch.equal(images, before)
    assert sum(not torch.equal(a, b) for a, b in zip(new, images, strict=True)) >= 8  # a few ops are the identity


def test_an_image_depends_on_seed_and_index_alone():
    images = pictures()
    whole = augment_images(images, ops=2, magnitude=9, seed=1)
    torch.rand(5)
    assert torch.equal(whole, augment_images(images, ops=2, magnitude=9, seed=1))
    parts = [augment_images(images[a : a + 5], ops=2, magnitude=9, seed=1, indices=range(a, 15)) for a in (0, 5, 10)]
    assert torch.equal(whole, torch.cat(parts))
    assert not torch.equal(whole, augment_images(images, ops=2, magnitude=9, seed=2))
    same = augment_images(images[:1].expand(12, -1, -1, -1), ops=2, magnitude=9, seed=1)
    assert len({bytes(image.numpy().tobytes()) for image in same}) > 6


def numpy_state() -> str:
    return repr([np.asarray(part).tolist() for part in np.random.get_state()])


def test_module_level_generators_do_not_notice():
    torch_before, numpy_before = torch.get_rng_state(), numpy_state()
    augment_images(pictures(), ops=3, magnitude=20, seed=1)
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert numpy_state() == numpy_before


def test_pixels_from_outside_have_the_fill(monkeypatch):
    monkeypatch.setattr(
        v2.RandAugment, "_AUGMENTATION_SPACE", {"TranslateX": v2.RandAugment._AUGMENTATION_SPACE["TranslateX"]}
    )
    grey = torch.full((8, 3, 32, 32), 128, dtype=torch.uint8)
    for fill, given in ((255, {}), (7, {"fill": 7})):
        new = augment_images(grey, ops=1, magnitude=30, seed=1, **given)
        assert set(new.unique().tolist()) == {128, fill}


def test_no_images_and_no_magnitude():
    assert augment_images(pictures()[:0], ops=2, magnitude=9, seed=1).shape == (0, 3, 16, 16)
    for magnitude in (-1, 31):
        with pytest.raises(ValueError, match=f"magnitude: {magnitude} is not in 0 .. 30"):
            augment_images(pictures(1), ops=2, magnitude=magnitude, seed=1)
    augment_images(pictures(), ops=2, magnitude=30, seed=1)
    augment_images(pictures(), ops=2, magnitude=0, seed=1)
