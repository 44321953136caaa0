"""The tokenizer of an encoder for a dataset, kept for the process."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from trainables.data.reading.dataset import DatasetRef, training_texts
from trainables.encoders.tokenizers import load_tokenizer
from trainables.encoders.weights import place_of


def dataset_tokenizer(dataset: DatasetRef, encoder: str) -> Any:
    """The encoder's tokenizer; one without weights gets its vocabulary from the training texts."""
    return _kept(dataset, encoder, place_of(encoder))


@lru_cache(maxsize=4)
def _kept(dataset: DatasetRef, encoder: str, _place: Path | None) -> Any:
    return load_tokenizer(encoder, texts=training_texts(dataset))
