"""Open Clip Art Library 0.18: 3,290 public-domain drawings with captions, embedded in this package.

Built by ``scripts/build_openclipart.py`` from Debian's openclipart-svg and openclipart-png. Split
70/10/20 by groups (series, same author and title, same perceptual hash), so that no near copy crosses
splits. ``author`` predicts the label well above chance and is never a feature.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trainables.data.reading.folder import no_folder
from trainables.data.reading.parquet import open_parquet
from trainables.data.reading.table import Table
from trainables.data.reading.targets import multiclass, multilabel

SUMMARY = "3,290 public-domain drawings with captions; 18 classes (label) or 68 tags (tags)"
IS_EMBEDDED = True
TARGETS = {"label": "multiclass", "tags": "multilabel"}

_FILE = Path(__file__).parents[1] / "embedded" / "openclipart64.parquet"
_NUMERIC = ("width", "height", "svg_bytes", "n_shapes")  # of the drawing before it was made small


def sources(data_dir: str | None) -> list[Path]:
    """The one file.

    Raises:
        ValueError: a data folder was given.
    """
    no_folder("openclipart", data_dir)
    return [_FILE]


def read(data_dir: str | None) -> Table:
    """All rows in file order, with both targets; drawings without a tag have no label for ``tags``.

    Raises:
        ValueError: a data folder was given.
    """
    (path,) = sources(data_dir)
    with open_parquet(path) as file:
        rows = file.read().to_pydict()
    return Table(
        ids=rows["id"],
        split=np.array(rows["split"], "<U5"),
        texts=rows["text"],
        images=rows["image"],
        targets={"label": multiclass(rows["label"]), "tags": multilabel([names or None for names in rows["tags"]])},
        numeric=np.stack([np.array(rows[name], np.float64) for name in _NUMERIC], axis=1),
        numeric_names=_NUMERIC,
    )
