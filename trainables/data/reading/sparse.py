"""Labels with thousands of classes of which a row has a few."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


class SparseRows:
    """Reads like a float32 array (N, C) that is mostly zeros: ``rows[index]`` gives dense rows.

    Args:
        rows: for each row its columns and their values.
        num_columns: C.
    """

    dtype = np.dtype(np.float32)
    ndim = 2

    def __init__(self, rows: Sequence[Mapping[int, float]], num_columns: int) -> None:
        self.shape = (len(rows), num_columns)
        self._offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)])
        total = int(self._offsets[-1])
        self._columns = np.fromiter((column for row in rows for column in row), np.int32, total)
        self._values = np.fromiter((value for row in rows for value in row.values()), np.float32, total)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        """Dense rows: (C,) for a number, else (len, C)."""
        wanted = np.arange(self.shape[0])[index]
        rows = np.atleast_1d(wanted)
        out = np.zeros((len(rows), self.shape[1]), np.float32)
        for at, row in enumerate(rows):
            part = slice(self._offsets[row], self._offsets[row + 1])
            out[at, self._columns[part]] = self._values[part]
        return out if wanted.ndim else out[0]

    def take_rows(self, rows: np.ndarray) -> SparseRows:
        """These rows, still sparse."""
        parts = [slice(self._offsets[row], self._offsets[row + 1]) for row in rows]
        dicts = [dict(zip(self._columns[part], self._values[part], strict=True)) for part in parts]
        return SparseRows(dicts, self.shape[1])

    def used_columns(self, rows: np.ndarray) -> np.ndarray:
        """(C,) bool: columns with something other than 0 in ``rows``."""
        is_used = np.zeros(self.shape[0], bool)
        is_used[rows] = True
        found = np.zeros(self.shape[1], bool)
        found[self._columns[np.repeat(is_used, np.diff(self._offsets)) & (self._values != 0)]] = True
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or np.float32, copy=False)
