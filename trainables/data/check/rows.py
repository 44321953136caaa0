"""The rows that a check looks at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainables.data.check.result import LISTED, RowRef, Shares, Splits
from trainables.data.reading.parquet import ParquetImages
from trainables.data.reading.table import SPLITS, ImageFiles, Table
from trainables.seeds import derive_seed


def choose_rows(table: Table, max_rows: int | None) -> np.ndarray:
    """All rows, or so many random ones at most, of each split its share."""
    num = len(table.ids)
    if max_rows is None or max_rows >= num:
        return np.arange(num)
    shuffled = np.random.default_rng(derive_seed(1, "check")).permutation(num)
    parts = [shuffled[table.split[shuffled] == name] for name in SPLITS]
    kept = [part[: max(1, len(part) * max_rows // num)] for part in parts]
    return np.sort(np.concatenate(kept)[:max_rows])


class Look:
    """The chosen rows of a table; from here on a row is a place among these.

    Attributes:
        split: (N,) index into SPLITS.
    """

    def __init__(self, table: Table, rows: np.ndarray) -> None:
        self.table, self.rows = table, rows
        self.split = np.array([SPLITS.index(name) for name in table.split[rows]], np.int64)
        self.ids = [table.ids[row] for row in rows]
        self.texts = [] if table.texts is None else [table.texts[row] for row in rows]

    def count(self, used: np.ndarray) -> Splits:
        """Rows of (N,) bool by split."""
        return {name: int((used & (self.split == at)).sum()) for at, name in enumerate(SPLITS)}

    def means(self, values: np.ndarray, used: np.ndarray) -> Shares:
        """The mean over the used rows of each split."""
        chosen = {name: values[used & (self.split == at)] for at, name in enumerate(SPLITS)}
        return {name: float(part.mean()) if len(part) else None for name, part in chosen.items()}

    def ref(self, at: int) -> RowRef:
        row, images = int(self.rows[at]), self.table.images
        place = None if images is None else place_of(images, row)
        return RowRef(row=row, id=self.ids[at], split=SPLITS[self.split[at]], place=place)

    def refs(self, used: np.ndarray) -> list[RowRef]:
        return [self.ref(int(at)) for at in np.flatnonzero(used)[:LISTED]]

    def excerpt(self, at: int) -> str | None:
        if not self.texts:
            return None
        text = " ".join(self.texts[at].split())
        return text if len(text) <= 120 else f"{text[:117]}..."


def place_of(images: Sequence[bytes], row: int) -> str:
    """Where the image of a row lies, for messages."""
    if isinstance(images, ImageFiles):
        return images.names[row]
    if isinstance(images, ParquetImages):
        file, place = images.rows[row]
        return f"{images.paths[file].name} row {place + 1}"
    return f"row {row}"
