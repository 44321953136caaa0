"""A dataset by name and folder, and what its reader gives: kept for the process, shared by all that ask."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from trainables.config import TrialConfig
from trainables.data.formats import dataset_module
from trainables.data.reading.exclude import exclude_file, without_excluded
from trainables.data.reading.links import check_links
from trainables.data.reading.table import ImageFiles, Table, Target


@dataclass(frozen=True)
class DatasetRef:
    """Which dataset; ``data_dir`` is the folder that it is read from, None for embedded datasets."""

    name: str
    data_dir: str | None = None

    @classmethod
    def of(cls, config: TrialConfig) -> DatasetRef:
        """The dataset that ``config`` trains on."""
        return cls(config.dataset, config.data_dir)

    @property
    def check_command(self) -> str:
        """What shows all that is wrong with it."""
        where = "" if self.data_dir is None else f" --data {self.data_dir}"
        return f"mmtune data check {self.name}{where}"


@lru_cache(maxsize=2)
def load_table(dataset: DatasetRef) -> Table:
    """The dataset as its reader gives it, without the rows that an ``exclude.txt`` names; kept for the process.

    Raises:
        ValueError: what is wrong with the dataset's name or files.
    """
    module = dataset_module(dataset.name)
    table, excluded = module.read(dataset.data_dir), exclude_file(dataset.data_dir)
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
    """The text of every row.

    Raises:
        ValueError: the dataset has no text.
    """
    texts = load_table(dataset).texts
    if texts is None:
        raise ValueError(f"dataset {dataset.name} has no text")
    return texts


def training_texts(dataset: DatasetRef) -> list[str]:
    """The texts of the training rows.

    Raises:
        ValueError: the dataset has no text.
    """
    texts = dataset_texts(dataset)
    return [texts[row] for row in np.flatnonzero(load_table(dataset).split == "train")]
