"""A dataset of 45 / 21 / 2 rows that a model can learn: the word and the colour both tell the class."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from trainables.batch import Task
from trainables.data.table import Table, Target

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
    hot = np.stack([labels == 0, labels != 1, np.array(["big" in text for text in texts])], axis=1)
    return Table(
        ids=[f"row-{index}" for index in range(len(split))],
        split=split,
        texts=texts,
        images=[_square(label, rng) for label in labels],
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
