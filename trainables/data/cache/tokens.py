"""Text tokenised once a tokenizer; memory-mapped afterwards. A static augmented copy has a folder of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from trainables.augment.views import TextView
from trainables.data.cache.arrays import NpyWriter, Ragged
from trainables.data.cache.identity import text_key
from trainables.data.cache.progress import tell
from trainables.data.cache.static import augmented_texts, view_key
from trainables.data.cache.store import build_once, meta
from trainables.data.cache.tokenizer import dataset_tokenizer
from trainables.data.padding import pad_rows
from trainables.data.reading.dataset import DatasetRef, dataset_texts
from trainables.encoders.weights import fingerprint

_CHUNK = 10_000  # rows at a time


@dataclass(frozen=True)
class Tokens:
    """Token ids without specials, and what surrounds and pads them."""

    ids: Ragged
    prefix: list[int]
    suffix: list[int]
    pad: int

    def length(self, max_len: int) -> np.ndarray:
        """Tokens of each row after truncation to ``max_len``, specials included."""
        return np.minimum(self.ids.lengths, self._room(max_len)) + len(self.prefix) + len(self.suffix)

    def encoded(self, row: int, max_len: int) -> list[int]:
        """One row with its specials, the text cut so that at most ``max_len`` ids remain."""
        return [*self.prefix, *self.ids.row(row)[: self._room(max_len)].tolist(), *self.suffix]

    def padded(self, rows: np.ndarray, max_len: int) -> tuple[Tensor, Tensor]:
        """Ids and mask (B, L) of the rows, padded to the longest."""
        return pad_rows([self.encoded(row, max_len) for row in rows], fill=self.pad)

    def _room(self, max_len: int) -> int:
        return max(0, max_len - len(self.prefix) - len(self.suffix))


def tokens_of(tokenizer: Any, texts: list[str]) -> Tokens:
    """Token ids of texts, in memory."""
    encoded = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    offsets = np.concatenate([[0], np.cumsum([len(ids) for ids in encoded])])
    values = np.array([token for ids in encoded for token in ids], np.int32)
    return Tokens(Ragged(values, offsets.astype(np.int64)), *_surroundings(tokenizer))


def _surroundings(tokenizer: Any) -> tuple[list[int], list[int], int]:
    """The specials before a text and behind it, and what pads it."""
    specials = tokenizer("")["input_ids"]
    num_before = (len(specials) + 1) // 2 if len(specials) > 1 else 0
    return specials[:num_before], specials[num_before:], tokenizer.pad_token_id or 0


def tokens_key(dataset: DatasetRef, encoder: str, view: TextView | None) -> dict[str, Any]:
    """What the token ids depend on."""
    return {**text_key(dataset), "encoder": fingerprint(encoder), "view": view_key(view)}


def prepare_tokens(dataset: DatasetRef, *, encoder: str, view: TextView | None = None) -> Tokens:
    """Token ids of every row for the encoder's tokenizer, from the cache or built now."""

    about = f"{dataset.name}: tokens of {encoder}" + ("" if view is None else ", augmented")

    def build(folder: Path) -> dict[str, Any]:
        tokenizer = dataset_tokenizer(dataset, encoder)
        texts = dataset_texts(dataset)
        lengths = np.zeros(len(texts), np.int64)
        with NpyWriter(folder / "ids.npy", np.dtype(np.int32)) as out:  # in parts: all ids at once are much memory
            for at in range(0, len(texts), _CHUNK):
                rows = np.arange(at, min(at + _CHUNK, len(texts)))
                part = [texts[row] for row in rows] if view is None else augmented_texts(dataset, view, rows)
                encoded = tokenizer(part, add_special_tokens=False, verbose=False)["input_ids"]
                lengths[rows] = [len(ids) for ids in encoded]
                out.write(np.array([token for ids in encoded for token in ids], np.int32))
                tell(about, at + len(rows), len(texts))
        np.save(folder / "offsets.npy", np.concatenate([[0], np.cumsum(lengths)]))
        prefix, suffix, pad = _surroundings(tokenizer)
        return {"about": about, "rows": len(texts), "prefix": prefix, "suffix": suffix, "pad": pad}

    folder = build_once("tokens", tokens_key(dataset, encoder, view), build)
    facts = meta(folder)
    ids = Ragged(np.load(folder / "ids.npy", mmap_mode="r"), np.load(folder / "offsets.npy"))
    return Tokens(ids=ids, prefix=facts["prefix"], suffix=facts["suffix"], pad=facts["pad"])
