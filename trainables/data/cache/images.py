"""Images decoded and resized once a size; memory-mapped afterwards. A static augmented copy has a folder of its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainables.augment.views import ImageView
from trainables.data.cache.arrays import Shared, forget_pages, new_array, open_shared
from trainables.data.cache.identity import dataset_key
from trainables.data.cache.progress import tell
from trainables.data.cache.static import augmented_images, view_key
from trainables.data.cache.store import build_once
from trainables.data.reading.dataset import DatasetRef, load_table
from trainables.data.reading.exclude import NAME as EXCLUDE
from trainables.data.reading.pictures import decode_image
from trainables.data.reading.table import ImageFiles
from trainables.imagefit import ImageFit

_CHUNK = 256  # rows at a time


def images_key(dataset: DatasetRef, size: int, fit: ImageFit, view: ImageView | None) -> dict[str, Any]:
    """What the resized images depend on."""
    return {**dataset_key(dataset), "size": size, "fit": fit, "view": view_key(view)}


def prepare_images(
    dataset: DatasetRef, *, size: int, fit: ImageFit = "crop", view: ImageView | None = None
) -> np.ndarray | Shared:
    """Every image as uint8 (N, 3, size, size), memory-mapped, from the cache or built now; a file once.

    Args:
        size: pixels a side.
        fit: how a picture becomes square.
        view: None for the clean ones.

    Raises:
        ValueError: images that cannot be decoded: how many, and the first.
    """

    about = (
        f"{dataset.name}: images at {size} pixels"
        + ("" if fit == "crop" else f" ({fit})")
        + ("" if view is None else ", augmented")
    )

    def build(folder: Path) -> dict[str, Any]:
        table = load_table(dataset)
        images = table.images
        if images is None:
            raise ValueError(f"dataset {dataset.name} has no images")
        units, index = np.arange(len(images)), None  # rows with an image of their own
        if isinstance(images, ImageFiles):
            _, first, which = np.unique(np.array(images.names), return_index=True, return_inverse=True)
            if len(first) < len(images):
                units, index = first, which
        shape = (len(units), 3, size, size)
        out = new_array(folder / "images.npy", dtype=np.uint8, shape=shape)

        broken: list[str] = []

        def decode(row: int) -> np.ndarray:
            try:
                return decode_image(images[row], size=size, fit=fit, where=f"{dataset.name} row {table.ids[row]}")
            except ValueError as error:
                broken.append(str(error))
                return np.zeros(shape[1:], np.uint8)

        with ThreadPoolExecutor(max(1, torch.get_num_threads())) as pool:  # Pillow lets go of the interpreter
            for at in range(0, len(units), _CHUNK):
                rows = units[at : at + _CHUNK]
                part = np.stack(list(pool.map(decode, rows)))
                out[at : at + len(rows)] = part if view is None else augmented_images(part, view, rows)
                forget_pages(out)
                tell(about, at + len(rows), len(units))
        if broken:
            others = f", and {len(broken) - 1} more" if len(broken) > 1 else ""
            raise ValueError(
                f"{sorted(broken)[0]}{others}. `{dataset.check_command}` lists them; replace the pictures, "
                f"or leave the rows out: their ids, one a line, in {EXCLUDE} of the data folder"
            )
        if index is not None:
            np.save(folder / "index.npy", index)
        return {"rows": shape[0], "about": about}

    return open_shared(build_once("images", images_key(dataset, size, fit, view), build), "images")
