"""FashionAI as image-text matching: a picture's text says its attribute and the value that it has of it.

The rows and splits are those of ``fashionai``; a question without an answer has no text and no label. Pictures with
the same value have the same text, so a text has several pictures. Target ``attribute`` groups the texts that are near
to each other: the same attribute with another value. The text names the class of ``description``: it is there to be
matched, and a classifier that reads it predicts nothing.
"""

from __future__ import annotations

from functools import partial

from trainables.data.formats.fashionai import CLASSES, read_pictures, sources_of
from trainables.data.reading.table import Table

SUMMARY = "FashionAI's pictures, each with a text of its attribute's value, to be matched; attribute, or value"
IS_EMBEDDED = False
TARGETS = {"attribute": "multiclass", "description": "multiclass"}

_NAME = "fashionai_pairs"

sources = partial(sources_of, _NAME)


def read(data_dir: str | None) -> Table:
    """All pictures that are labelled.

    Raises:
        ValueError: as for ``fashionai``.
    """
    rows, split = read_pictures(_NAME, data_dir)
    attributes, labels = rows.column("attribute"), rows.column("label")
    texts = [
        None if label is None else description(name, label) for name, label in zip(attributes, labels, strict=True)
    ]
    is_known = [text is not None for text in texts]
    targets = {
        "attribute": rows.multiclass(
            [name if known else None for name, known in zip(attributes, is_known, strict=True)]
        ),
        "description": rows.multiclass(
            texts, [description(name, value) for name in CLASSES for value in CLASSES[name]]
        ),
    }
    rows.texts[:] = [text or "" for text in texts]
    return rows.table(targets, split=split)


def description(attribute: str, value: str) -> str:
    """'skirt length: Knee Length'."""
    return f"{attribute.replace('_', ' ')}: {value}"
