"""Static augmented copies: one a sample, made once (Monter-Aldana et al. 2023, sec. 4)."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainables.augment.images import augment_images
from trainables.augment.views import ImageView, TextView
from trainables.data.cache.words import word_neighbours
from trainables.data.reading.dataset import DatasetRef, dataset_texts, load_table
from trainables.encoders.weights import fingerprint
from trainables.files import file_hash
from trainables.seeds import derive_seed

_SEED = 1  # the static copy belongs to the dataset, not to a trial: all trials share it


def view_key(view: TextView | ImageView | None) -> dict[str, Any] | None:
    """The view's settings, and the weights behind its word vectors."""
    if view is None:
        return None
    settings: dict[str, Any] = {"seed": _SEED, **asdict(view)}
    if isinstance(view, TextView):
        settings["vectors"] = file_hash(Path(view.vectors)) if view.is_file else fingerprint(view.vectors)
    return settings


def augmented_texts(dataset: DatasetRef, view: TextView, rows: np.ndarray) -> list[str]:
    """The static copy of these rows' texts."""
    texts, ids, neighbours = dataset_texts(dataset), load_table(dataset).ids, word_neighbours(dataset, view)
    return [
        neighbours.replace(texts[row], share=view.share, seed=derive_seed(_SEED, "words", ids[row])) for row in rows
    ]


def augmented_images(images: np.ndarray, view: ImageView, rows: np.ndarray) -> np.ndarray:
    """The static copy of the images of these rows: uint8 (B, 3, S, S)."""
    seed = derive_seed(_SEED, "images")
    pixels = torch.from_numpy(images)
    return augment_images(pixels, ops=view.ops, magnitude=view.magnitude, seed=seed, indices=rows.tolist()).numpy()
