"""Augmented images for UDA: RandAugment before normalisation (docs/methods.md#augmentation).

Cubuk et al. 2020, with torchvision's operations. A copy is a function of a seed and of the image's number, so
a static one and a fresh one each epoch are a matter of the seed. N images.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from trainables.seeds import derive_seed


def augment_images(
    images: Tensor, *, ops: int, magnitude: int, seed: int, indices: Sequence[int] | None = None, fill: int = 255
) -> Tensor:
    """RandAugment on each image, which the module-level generators do not notice.

    Args:
        images: (N, 3, H, W) uint8.
        ops: operations an image, one after the other.
        magnitude: 0 .. 30.
        seed: together with an image's index it decides its operations.
        indices: of the images, so that a data set done in parts comes out as done at once; None counts from 0.
        fill: value of the pixels that come in from outside, 0 .. 255; white by default.

    Returns:
        (N, 3, H, W) uint8.

    Raises:
        ValueError: ``magnitude`` is out of range.
    """
    assert images.dtype == torch.uint8 and images.ndim == 4
    if not 0 <= magnitude <= 30:
        raise ValueError(f"magnitude: {magnitude} is not in 0 .. 30")
    from torchvision.transforms import v2  # a second or two, which only who augments has to wait for

    augment = v2.RandAugment(num_ops=ops, magnitude=magnitude, num_magnitude_bins=31, fill=fill)
    augmented = torch.empty_like(images)
    with torch.random.fork_rng(devices=[]):  # torchvision draws from the CPU's generator, whatever the device
        for row, image in enumerate(images):
            index = row if indices is None else int(indices[row])
            torch.default_generator.manual_seed(derive_seed(seed, index))  # manual_seed sets the GPUs' too
            augmented[row] = augment(image)
    return augmented
