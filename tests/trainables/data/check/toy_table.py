"""A table in which nothing is wrong, and ways to break it."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from trainables.data.check.table import check_table
from trainables.data.reading.table import ImageFiles, Neighbours, Table
from trainables.data.reading.targets import multiclass, multilabel, regression

NUM, TRAIN, VAL = 96, 60, 18
CLASSES = ("owls", "bats", "red fox")


def picture(seed: int, size: tuple[int, int] = (40, 32)) -> Image.Image:
    """Soft blobs, different for each seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def words(seed: int, num: int = 14) -> list[str]:
    return [f"word{at}" for at in np.random.default_rng(seed).integers(0, 500, num)]


def clean_table(root: Path) -> Table:
    names = [f"pictures/{row}.png" for row in range(NUM)]
    (root / "pictures").mkdir()
    for row, name in enumerate(names):
        (root / name).write_bytes(encoded(picture(row)))
    rng = np.random.default_rng(0)
    tags = [[name for at, name in enumerate("xyz") if (row >> at) & 1 or row % 5 == at] for row in range(NUM)]
    return Table(
        ids=[f"id-{row}" for row in range(NUM)],
        split=np.array(["train"] * TRAIN + ["val"] * VAL + ["test"] * (NUM - TRAIN - VAL)),
        texts=[" ".join(words(row)) for row in range(NUM)],
        images=ImageFiles(root, names),
        targets={
            "animal": multiclass([CLASSES[row % 3] for row in range(NUM)], CLASSES),
            "tags": multilabel(tags, ("x", "y", "z")),
            "age": regression(list(rng.normal(size=NUM))),
        },
        numeric=rng.normal(size=(NUM, 2)).astype(np.float32),
        numeric_names=("weight", "height"),
        categorical={"place": [f"place {at}" for at in rng.integers(0, 3, NUM)]},
        graphs={"links": Neighbours(nodes=np.arange(NUM) % 7, offsets=np.arange(NUM + 1), num_nodes=9)},
    )


def check(table: Table, **options):
    return check_table(table, dataset="toy", **options)


def findings(result) -> list[str]:
    return [finding.text for finding in result.findings]


def picture_path(table: Table, row: int) -> Path:
    assert isinstance(table.images, ImageFiles)
    return table.images.root / table.images.names[row]


def with_file(table: Table, row: int, data: bytes | None) -> Table:
    path = picture_path(table, row)
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data)
    return table


def with_text(table: Table, row: int, text: str) -> Table:
    return replace(table, texts=[text if at == row else old for at, old in enumerate(table.texts)])
