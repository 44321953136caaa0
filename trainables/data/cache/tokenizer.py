"""The tokenizer of an encoder for a dataset, kept for the process."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from trainables.data.reading.dataset import DatasetRef, dataset_texts, load_table
from trainables.encoders.tokenizers import load_tokenizer


@lru_cache(maxsize=4)
def dataset_tokenizer(dataset: DatasetRef, encoder: str) -> Any:
    """The encoder's tokenizer; one without weights gets its vocabulary from the training texts."""
    split, texts = load_table(dataset).split, dataset_texts(dataset)
    return load_tokenizer(encoder, texts=[texts[row] for row in np.flatnonzero(split == "train")])
