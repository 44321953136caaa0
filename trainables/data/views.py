"""Views: the clean data or its augmented copy, each modality as raw inputs or as features of a locked encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainables.augment.images import augment_images
from trainables.augment.views import ImageView
from trainables.augment.words import WordNeighbours
from trainables.data.cache.arrays import Ragged, Shared
from trainables.data.cache.features import Features
from trainables.data.cache.tokens import Tokens, tokens_of
from trainables.data.padding import pad_rows
from trainables.seeds import derive_seed


@dataclass(frozen=True)
class FreshText:
    """Makes augmented texts when they are asked for, others in each epoch.

    Attributes:
        texts: of every row.
        ids: of every row; together with the seed and the epoch they choose the words.
        neighbours: what words are replaced by.
        share: of the words.
        tokenizer: of the text encoder.
        seed: the trial's.
    """

    texts: list[str]
    ids: list[str]
    neighbours: WordNeighbours
    share: float
    tokenizer: Any
    seed: int

    def tokens(self, rows: np.ndarray, epoch: int) -> Tokens:
        """Of these rows in their order."""
        texts = [
            self.neighbours.replace(
                self.texts[row], share=self.share, seed=derive_seed(self.seed, "words", self.ids[row], epoch)
            )
            for row in rows
        ]
        return tokens_of(self.tokenizer, texts)


@dataclass(frozen=True)
class FreshImages:
    """Makes augmented images when they are asked for, others in each epoch.

    Attributes:
        images: the clean ones.
        view: how they are changed.
        seed: the trial's.
    """

    images: np.ndarray | Shared
    view: ImageView
    seed: int

    def pixels(self, rows: np.ndarray, epoch: int) -> Tensor:
        """uint8 (B, 3, S, S)."""
        seed, pixels = derive_seed(self.seed, "images", epoch), torch.from_numpy(self.images[rows])
        ops, magnitude = self.view.ops, self.view.magnitude
        return augment_images(pixels, ops=ops, magnitude=magnitude, seed=seed, indices=rows.tolist())


@dataclass(frozen=True)
class View:
    """For each modality raw inputs or features, or both where the input keeps them; None is what is not read."""

    tokens: Tokens | FreshText | None = None
    text_features: Features | None = None
    images: np.ndarray | Shared | FreshImages | None = None
    image_features: Features | None = None

    def tensors(self, rows: np.ndarray, *, max_text_len: int, epoch: int = 0) -> dict[str, Tensor]:
        """The text and image fields of a Batch: padded to the longest of these rows; ``epoch`` chooses fresh copies."""
        found: dict[str, Tensor | None] = {}
        if isinstance(self.tokens, FreshText):
            fresh = self.tokens.tokens(rows, epoch)
            found["input_ids"], found["attention_mask"] = fresh.padded(np.arange(len(rows)), max_text_len)
        elif self.tokens is not None:
            found["input_ids"], found["attention_mask"] = self.tokens.padded(rows, max_text_len)
        if self.text_features is not None:
            found["text_features"], mask = _features(self.text_features, rows)
            found |= {} if mask is None else {"attention_mask": mask}
        if isinstance(self.images, FreshImages):
            found["pixel_values"] = self.images.pixels(rows, epoch)
        elif self.images is not None:
            found["pixel_values"] = torch.from_numpy(self.images[rows])
        if self.image_features is not None:
            found["image_features"], _ = _features(self.image_features, rows)
        return {name: value for name, value in found.items() if value is not None}

    def lengths(self, max_text_len: int) -> np.ndarray | None:
        """Tokens of each row; None where all rows are alike."""
        if isinstance(self.tokens, Tokens):
            return self.tokens.length(max_text_len)
        if self.text_features is not None and isinstance(self.text_features.rows, Ragged):
            return self.text_features.rows.lengths
        return None


def _features(features: Features, rows: np.ndarray) -> tuple[Tensor, Tensor | None]:
    """Of these rows, and a mask where they are of different lengths."""
    values = features.rows
    if not isinstance(values, Ragged):
        return torch.from_numpy(values[rows]), None
    parts = [values.row(row) for row in rows]
    return pad_rows(parts, shape=values.values.shape[1:], dtype=values.values.dtype)
