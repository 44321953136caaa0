"""Numbers, categories and graph neighbours of a Table as a trial reads them: codes and statistics of the training rows.

N rows, M numbers, K columns of categories.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np

from trainables.data.reading.dataset import DatasetRef, load_table
from trainables.data.reading.scale import moments
from trainables.data.reading.table import Neighbours, Table
from trainables.messages import from_known, show


@dataclass(frozen=True)
class Tabular:
    """What a dataset has beside text and images; None is what it does not have.

    Attributes:
        numeric: (N, M) float64, NaN where missing.
        numeric_names: the M columns.
        mean: (M,) over the training rows.
        std: (M,) over the training rows; 1 where a column is constant.
        has_missing: (M,) bool: columns with a missing value in a training row.
        codes: (N, K) int64; 0 is missing, or a value that no training row has.
        values: of the K columns by name, the values of code 1, 2, ...
        graph: neighbours of each row.
    """

    numeric: np.ndarray | None = None
    numeric_names: tuple[str, ...] = ()
    mean: np.ndarray | None = None
    std: np.ndarray | None = None
    has_missing: np.ndarray | None = None
    codes: np.ndarray | None = None
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    graph: Neighbours | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        """K numbers of codes, 0 included."""
        return tuple(len(values) + 1 for values in self.values.values())

    def only(self, modalities: Collection[str]) -> Tabular:
        """What of it is one of 'numeric', 'categorical' and 'graph' among ``modalities``."""
        names = [name for modality, fields in _FIELDS.items() if modality in modalities for name in fields]
        return Tabular(**{name: getattr(self, name) for name in names})


_FIELDS = {
    "numeric": ("numeric", "numeric_names", "mean", "std", "has_missing"),
    "categorical": ("codes", "values"),
    "graph": ("graph",),
}


@lru_cache(maxsize=8)  # of each table with each of its graphs
def load_tabular(dataset: DatasetRef, graph: str | None = None) -> Tabular:
    """Numbers, categories and graph of a dataset.

    Args:
        dataset: which.
        graph: the graph's name; None is the dataset's first.

    Raises:
        ValueError: unreadable files, or a graph that the dataset does not have.
    """
    if dataset.fields is not None:
        return load_tabular(dataset.plain, graph)
    table = load_table(dataset)
    if graph is None:
        return tabular_of(table)
    if graph not in table.graphs:
        raise ValueError(f"graph: dataset {dataset.name} has no {show(graph)}{from_known(graph, table.graphs)}")
    return replace(load_tabular(dataset), graph=table.graphs[graph])


def tabular_of(table: Table) -> Tabular:
    """Statistics and codes come from the training rows alone, the most frequent value first."""
    is_train = table.split == "train"
    mean = std = has_missing = codes = None
    known: dict[str, tuple[str, ...]] = {}
    if table.numeric is not None:
        train = table.numeric[is_train]
        mean, std = moments(train)
        has_missing = np.logical_not(np.isfinite(train).all(axis=0))
    if table.categorical:
        for name, values in table.categorical.items():
            seen = Counter(value for value, used in zip(values, is_train, strict=True) if used and value is not None)
            known[name] = tuple(sorted(seen, key=lambda value: (-seen[value], value)))
        codes = category_codes(table.categorical, known)
    return Tabular(
        numeric=table.numeric, numeric_names=table.numeric_names, mean=mean, std=std, has_missing=has_missing,
        codes=codes, values=known, graph=table.graph,
    )  # fmt: skip


def category_codes(columns: Mapping[str, Sequence[str | None]], known: Mapping[str, tuple[str, ...]]) -> np.ndarray:
    """(N, K) int64 of the columns that ``known`` names; 0 is missing, or a value that it does not have."""
    codes = []
    for name, values in known.items():
        code = {value: at for at, value in enumerate(values, start=1)}
        codes.append([0 if value is None else code.get(value, 0) for value in columns[name]])
    return np.array(codes, np.int64).T
