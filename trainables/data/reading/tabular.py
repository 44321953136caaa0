"""Numbers, categories and graph neighbours of a Table as a trial reads them: codes and statistics of the training rows.

N rows, M numbers, K columns of categories.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from trainables.data.reading.dataset import DatasetRef, load_table
from trainables.data.reading.scale import moments
from trainables.data.reading.table import Neighbours, Table


@dataclass(frozen=True)
class Tabular:
    """What a dataset has beside text and images; None is what it does not have.

    Attributes:
        numeric: (N, M) float64, NaN where missing.
        mean: (M,) over the training rows.
        std: (M,) over the training rows; 1 where a column is constant.
        has_missing: (M,) bool: columns with a missing value in a training row.
        codes: (N, K) int64; 0 is missing, or a value that no training row has.
        sizes: K numbers of codes, 0 included.
        graph: neighbours of each row.
    """

    numeric: np.ndarray | None = None
    mean: np.ndarray | None = None
    std: np.ndarray | None = None
    has_missing: np.ndarray | None = None
    codes: np.ndarray | None = None
    sizes: tuple[int, ...] = ()
    graph: Neighbours | None = None

    def only(self, modalities: Collection[str]) -> Tabular:
        """What of it is one of 'numeric', 'categorical' and 'graph' among ``modalities``."""
        names = [name for modality, fields in _FIELDS.items() if modality in modalities for name in fields]
        return Tabular(**{name: getattr(self, name) for name in names})


_FIELDS = {
    "numeric": ("numeric", "mean", "std", "has_missing"),
    "categorical": ("codes", "sizes"),
    "graph": ("graph",),
}


@lru_cache(maxsize=2)
def load_tabular(dataset: DatasetRef) -> Tabular:
    """Numbers, categories and graph of a dataset.

    Raises:
        ValueError: unreadable files.
    """
    return tabular_of(load_table(dataset))


def tabular_of(table: Table) -> Tabular:
    """Statistics and codes come from the training rows alone, the most frequent value first."""
    is_train = table.split == "train"
    mean = std = has_missing = codes = None
    sizes: list[int] = []
    if table.numeric is not None:
        train = table.numeric[is_train]
        mean, std = moments(train)
        has_missing = np.logical_not(np.isfinite(train).all(axis=0))
    if table.categorical:
        columns = []
        for values in table.categorical.values():
            seen = Counter(value for value, used in zip(values, is_train, strict=True) if used and value is not None)
            ranked = sorted(seen.items(), key=lambda item: (-item[1], item[0]))
            code = {value: at for at, (value, _) in enumerate(ranked, start=1)}
            columns.append([0 if value is None else code.get(value, 0) for value in values])
            sizes.append(len(code) + 1)
        codes = np.array(columns, np.int64).T
    return Tabular(
        numeric=table.numeric, mean=mean, std=std, has_missing=has_missing, codes=codes, sizes=tuple(sizes),
        graph=table.graph,
    )  # fmt: skip
