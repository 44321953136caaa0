"""A dataset by name and folder, and what its reader gives: kept for the process, shared by all that ask."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from trainables.config import TrialConfig
from trainables.data.formats import dataset_module
from trainables.data.reading.exclude import exclude_file, without_excluded
from trainables.data.reading.folder import pictures_may_be_missing
from trainables.data.reading.links import check_links
from trainables.data.reading.table import ImageFiles, Table, Target
from trainables.messages import from_known, show


@dataclass(frozen=True)
class DatasetRef:
    """Which dataset.

    Attributes:
        name: its format.
        data_dir: the folder that it is read from, None for embedded datasets.
        fields: columns in front of its texts, joined by '+'; '' is all of them, None none (docs/methods.md#metadata).
        needs_pictures: a row whose picture is not there is left out; False where something else is read in its place.
    """

    name: str
    data_dir: str | None = None
    fields: str | None = None
    needs_pictures: bool = True

    @classmethod
    def of(cls, config: TrialConfig) -> DatasetRef:
        """The dataset that ``config`` trains on."""
        is_text = getattr(config.model, "metadata", "none") == "text"
        fields = config.model.metadata_fields if is_text else None
        return cls(config.dataset, config.data_dir, fields, getattr(config.model, "regions", "grid") == "grid")

    @property
    def plain(self) -> DatasetRef:
        """The same without anything in front of its texts."""
        return self if self.fields is None else replace(self, fields=None)

    @property
    def check_command(self) -> str:
        """What shows all that is wrong with it."""
        where = "" if self.data_dir is None else f" --data {self.data_dir}"
        return f"mmtune data check {self.name}{where}"


@lru_cache(maxsize=4)  # two datasets, with something in front of their texts and without
def load_table(dataset: DatasetRef) -> Table:
    """The dataset as its reader gives it, without the rows that an ``exclude.txt`` names; kept for the process.

    Raises:
        ValueError: what is wrong with the dataset's name or files.
    """
    if dataset.fields is not None:
        return load_table(dataset.plain)
    module = dataset_module(dataset.name)
    excluded = exclude_file(dataset.data_dir)
    with pictures_may_be_missing(not dataset.needs_pictures):
        table = module.read(dataset.data_dir)
    if dataset.data_dir is not None:
        found = module.sources(dataset.data_dir)
        if isinstance(table.images, ImageFiles):
            found = [*found, *(table.images.root / name for name in table.images.names)]
        check_links(Path(dataset.data_dir), found)
    return table if excluded is None else without_excluded(table, excluded)


def load_target(dataset: DatasetRef, name: str | None) -> Target:
    """The labels called ``name``; None is the dataset's first.

    Raises:
        ValueError: an unknown dataset or target, or unreadable files.
    """
    targets = load_table(dataset).targets
    name = name or next(iter(targets))
    if name not in targets:
        raise ValueError(f"target '{name}' is unknown for dataset {dataset.name}. Known: {', '.join(targets)}")
    return targets[name]


def dataset_texts(dataset: DatasetRef) -> list[str]:
    """The text of every row, with what ``dataset.fields`` puts in front.

    Raises:
        ValueError: the dataset has no text, or no such columns.
    """
    table = load_table(dataset)
    if table.texts is None:
        raise ValueError(f"dataset {dataset.name} has no text")
    return table.texts if dataset.fields is None else _texts_with_fields(dataset)


@lru_cache(maxsize=1)
def _texts_with_fields(dataset: DatasetRef) -> list[str]:
    table = load_table(dataset)
    assert table.texts is not None
    numbers, categories = field_columns(dataset)
    places = [table.numeric_names.index(name) for name in numbers]
    found = []
    for row, text in enumerate(table.texts):
        values: list[tuple[str, float | str | None]] = []
        if table.numeric is not None:
            values += zip(numbers, table.numeric[row, places].tolist(), strict=True)
        values += [(name, table.categorical[name][row]) for name in categories]
        found.append(with_fields(text, values))
    return found


def field_columns(dataset: DatasetRef) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The columns of numbers and of categories that ``dataset.fields`` names.

    Raises:
        ValueError: a column that the dataset does not have, or it has none at all.
    """
    if dataset.fields is None:
        return (), ()
    table = load_table(dataset)
    known = (*table.numeric_names, *table.categorical)
    if not known:
        raise ValueError(f"model.metadata: dataset {dataset.name} has no numbers and no categories")
    wanted = dataset.fields.split("+") if dataset.fields else known
    for name in wanted:
        if name not in known:
            raise ValueError(
                f"model.metadata_fields: dataset {dataset.name} has no column {show(name)}{from_known(name, known)}"
            )
    return tuple(n for n in table.numeric_names if n in wanted), tuple(n for n in table.categorical if n in wanted)


def with_fields(text: str, values: Iterable[tuple[str, float | str | None]]) -> str:
    """'price: 12.5. brand: Acme. The text'; values that are missing (None, NaN) are left out."""
    parts = []
    for name, value in values:
        if value is not None and value == value:  # NaN is not itself
            parts.append(f"{name.replace('_', ' ')}: {value if isinstance(value, str) else f'{value:g}'}")
    return ". ".join([*parts, text])


def training_texts(dataset: DatasetRef) -> list[str]:
    """The texts of the training rows.

    Raises:
        ValueError: the dataset has no text.
    """
    texts = dataset_texts(dataset)
    return [texts[row] for row in np.flatnonzero(load_table(dataset).split == "train")]
