"""Open Clip Art Library 0.18: 3,290 public-domain drawings with captions, embedded in this package.

Built by ``scripts/build_openclipart.py`` from Debian's openclipart-svg and openclipart-png. Split
70/10/20 by groups (series, same author and title, same perceptual hash), so that no near copy crosses
splits. ``author`` predicts the label well above chance and is never a feature.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet

from trainables.batch import Task
from trainables.data.table import Table, Target

SUMMARY = "3,290 public-domain drawings with captions; 18 classes (label) or 68 tags (tags)"
IS_EMBEDDED = True
TARGETS = {"label": "multiclass", "tags": "multilabel"}

_FILE = Path(__file__).parents[1] / "embedded" / "openclipart64.parquet"


def sources(data_dir: str | None) -> list[Path]:
    """The files the dataset is read from; an embedded dataset ignores no folder: it takes none.

    Raises:
        ValueError: a data folder was given.
    """
    if data_dir is not None:
        raise ValueError(f"dataset openclipart is embedded and reads no folder, but --data {data_dir} was given")
    return [_FILE]


def read(data_dir: str | None) -> Table:
    """All rows in file order, with both targets."""
    (path,) = sources(data_dir)
    rows = pyarrow.parquet.read_table(path).to_pydict()
    labels, tags = rows["label"], rows["tags"]
    classes = tuple(sorted(set(labels)))
    tag_names = tuple(sorted({tag for row in tags for tag in row}))
    class_index = {name: index for index, name in enumerate(classes)}
    tag_index = {name: index for index, name in enumerate(tag_names)}
    hot = np.zeros((len(tags), len(tag_names)), np.float32)
    for row, names in enumerate(tags):
        hot[row, [tag_index[name] for name in names]] = 1
    return Table(
        ids=rows["id"],
        split=np.array(rows["split"]),
        texts=rows["text"],
        images=rows["image"],
        targets={
            "label": Target(
                task=Task(kind="multiclass", classes=classes),
                labels=np.array([class_index[name] for name in labels], np.int64),
                is_labelled=np.ones(len(labels), bool),
            ),
            "tags": Target(
                task=Task(kind="multilabel", classes=tag_names), labels=hot, is_labelled=hot.sum(axis=1) > 0
            ),
        },
    )
