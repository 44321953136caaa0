"""A dataset of 45 / 21 / 2 rows that a model can learn: the word, the colour, a number, a category and the
neighbours in a graph each tell the class."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from trainables.data.reading.table import Neighbours, Table, Target
from trainables.task import Task

SUMMARY = "coloured squares with a few words"
IS_EMBEDDED = True
TARGETS = {"class": "multiclass", "many": "multilabel", "number": "regression"}
WORDS = ("red", "green", "blue")


def sources(data_dir: str | None) -> list[Path]:
    return [Path(__file__)]


def read(data_dir: str | None) -> Table:
    rng = np.random.default_rng(0)
    split = np.array(["train"] * 45 + ["val"] * 21 + ["test"] * 2)
    labels = rng.integers(0, 3, len(split))
    labels[:3] = [0, 1, 2]
    fillers = ["a", "big", "small", "old", "new", "square"]
    texts = []
    for label in labels:
        words = [WORDS[label], *rng.choice(fillers, rng.integers(0, 12))]
        texts.append(" ".join(words))
    texts[4] = texts[50] = ""
    numeric = np.stack(
        [100 + 10 * labels, np.random.default_rng(1).normal(size=len(labels)), np.full(len(labels), 7)], axis=1
    )
    numeric[5, 0] = numeric[47, 1] = np.nan
    degrees = np.arange(len(labels)) % 3
    nodes = np.concatenate([3 * np.arange(degree) + label for label, degree in zip(labels, degrees, strict=True)])
    hot = np.stack([labels == 0, labels != 1, np.array(["big" in text for text in texts])], axis=1)
    return Table(
        ids=[f"row-{index}" for index in range(len(split))],
        split=split,
        texts=texts,
        images=[_square(label, rng) for label in labels],
        numeric=numeric.astype(np.float32),
        numeric_names=("told", "noise", "constant"),
        categorical={
            "told": [None if row == 6 else f"class {label}" for row, label in enumerate(labels)],
            "user": [f"user {row % 5}" if row < 60 else f"new user {row}" for row in range(len(labels))],
        },
        graphs={
            "links": Neighbours(
                nodes=nodes.astype(np.int64),
                offsets=np.concatenate([[0], np.cumsum(degrees)]).astype(np.int64),
                num_nodes=9,
            ),
            "classes": Neighbours(nodes=labels.astype(np.int64), offsets=np.arange(len(labels) + 1), num_nodes=3),
        },
        targets={
            "class": Target(
                task=Task(kind="multiclass", classes=WORDS), labels=labels, is_labelled=np.ones(len(split), bool)
            ),
            "many": Target(
                task=Task(kind="multilabel", classes=("r", "rb", "big")),
                labels=hot.astype(np.float32),
                is_labelled=np.ones(len(split), bool),
            ),
            "number": Target(
                task=Task(kind="regression"), labels=labels.astype(np.float32), is_labelled=np.ones(len(split), bool)
            ),
        },
    )


def _square(label: int, rng: np.random.Generator) -> bytes:
    pixels = rng.integers(0, 120, (20, 16, 3))
    pixels[..., label] += 130
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()
