"""Samples beside their augmented copies, as training sees them (Monter-Aldana et al. 2023, fig. 2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trainables.augment.views import ImageView, TextView
from trainables.data.cache.static import augmented_images, augmented_texts
from trainables.data.reading.dataset import DatasetRef, dataset_texts, load_table
from trainables.data.reading.pictures import decode_image
from trainables.imagefit import ImageFit


@dataclass(frozen=True)
class Example:
    """One training row and its static copy; None is what the dataset does not have."""

    id: str
    text: str | None
    augmented_text: str | None
    image: np.ndarray | None  # uint8 (S, S, 3)
    augmented_image: np.ndarray | None


def augmented_examples(
    dataset: DatasetRef,
    views: Mapping[str, TextView | ImageView],
    *,
    image_size: int,
    image_fit: ImageFit,
    num: int,
    seed: int = 1,
) -> list[Example]:
    """Random training rows with the copies that ``views`` make of them.

    Args:
        dataset: whose rows.
        views: modality -> how it is augmented; one that is not there stays as it is.
        image_size: pixels a side.
        image_fit: how a picture becomes square.
        num: rows at most.
        seed: chooses the rows.

    Raises:
        ValueError: an unknown dataset, unreadable files, or word vectors that are malformed.
    """
    table = load_table(dataset)
    train = np.flatnonzero(table.split == "train")
    rows = np.sort(np.random.default_rng(seed).permutation(train)[:num])
    texts = new_texts = images = new_images = [None] * len(rows)
    if table.texts is not None:
        texts = new_texts = [dataset_texts(dataset)[row] for row in rows]
        if isinstance(view := views.get("text"), TextView):
            new_texts = augmented_texts(dataset, view, rows)
    if table.images is not None:
        where = f"{dataset.name} row "
        images = [
            decode_image(table.images[row], size=image_size, fit=image_fit, where=f"{where}{table.ids[row]}")
            for row in rows
        ]
        new_images = images
        if isinstance(view := views.get("image"), ImageView):
            new_images = list(augmented_images(np.stack(images), view, rows))
        images, new_images = ([image.transpose(1, 2, 0) for image in part] for part in (images, new_images))
    parts = zip([table.ids[row] for row in rows], texts, new_texts, images, new_images, strict=True)
    return [Example(*part) for part in parts]
