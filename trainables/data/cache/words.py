"""The nearest word of each word, searched once for every encoder or file of word vectors."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from trainables.augment.views import TextView
from trainables.augment.words import WordNeighbours
from trainables.data.cache.identity import text_key
from trainables.data.cache.store import build_once
from trainables.data.cache.tokenizer import dataset_tokenizer
from trainables.data.reading.dataset import DatasetRef
from trainables.encoders.architectures import is_random
from trainables.encoders.text import word_embeddings
from trainables.encoders.weights import fingerprint
from trainables.files import file_hash


def word_neighbours(dataset: DatasetRef, view: TextView) -> WordNeighbours:
    """The nearest words, which all datasets and shares have in common (an encoder without weights apart).

    Raises:
        ValueError: the file of word vectors is malformed.
    """

    def build(folder: Path) -> dict[str, Any]:
        if view.is_file:
            neighbours = WordNeighbours.from_vectors_file(view.vectors)
        else:
            tokenizer = dataset_tokenizer(dataset, view.vectors)
            neighbours = WordNeighbours.from_text_encoder(tokenizer, word_embeddings(view.vectors))
        neighbours.save(folder / "words.json")
        return {"rows": len(neighbours.nearest), "about": f"nearest words of {view.vectors}"}

    if view.is_file:
        if not Path(view.vectors).is_file():
            raise ValueError(f"uda.vectors: {view.vectors} is no file")
        key: dict[str, Any] = {"file": file_hash(Path(view.vectors))}
    else:
        key = {"encoder": fingerprint(view.vectors), **(text_key(dataset) if is_random(view.vectors) else {})}
    return _load_neighbours(build_once("neighbours", key, build) / "words.json")


@lru_cache(maxsize=2)
def _load_neighbours(path: Path) -> WordNeighbours:
    return WordNeighbours.load(path)
