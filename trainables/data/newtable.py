"""Rows of a dataset as its format's reader gives them, for a trained model to answer, labels or not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow

from trainables.data.cache.identity import dataset_fingerprint
from trainables.data.reading.cells import Cells, known_values
from trainables.data.reading.dataset import DatasetRef, load_table, with_fields
from trainables.data.reading.newrows import in_tables, no_column
from trainables.data.reading.table import SPLITS, ImageFiles, LeftOut
from trainables.messages import unknown
from trainables.modelfolder import ModelFacts


@dataclass(frozen=True)
class NewTable:
    """Rows of a dataset.

    Attributes:
        facts: what the model that reads them knows.
        reads: its modalities.
        dataset: which.
        split: whose rows; None is all.
    """

    facts: ModelFacts
    reads: tuple[str, ...]
    dataset: DatasetRef
    split: str | None = None

    def check(self) -> None:
        """Returns if there are rows and they have what the model reads.

        Raises:
            ValueError: an unreadable dataset, no row, a modality or column that is missing, or a graph of other data.
        """
        if self.split not in (None, *SPLITS):
            raise ValueError(f"--split: {unknown(self.split, SPLITS)}")
        table, name = load_table(self.dataset), f"dataset {self.dataset.name}"
        for modality, rows in (("text", table.texts), ("image", table.images)):
            if modality in self.reads and rows is None and not (modality == "image" and self.facts.reads_regions):
                raise ValueError(f"{name} has no {modality}, which the model reads")
        if "graph" in self.reads and not self.is_own:
            raise ValueError(
                f"the model reads a graph, whose nodes are those of {self.facts.dataset} as it was trained on: it can "
                "answer rows of that dataset alone"
            )
        for kind, wanted, there in (
            ("numeric", [scale.name for scale in self.facts.numeric], table.numeric_names),
            ("categorical", [*self.facts.categorical], [*table.categorical]),
            ("text", [*self.facts.columns.text_numbers], table.numeric_names),
            ("text", [*self.facts.columns.text_categories], [*table.categorical]),
        ):
            for column in wanted:
                if kind in self.reads and column not in there:
                    raise no_column(column, kind, there, where=name)
        if self.total == 0:
            raise ValueError(f"{name}: has no row in split {self.split}")

    @cached_property
    def is_own(self) -> bool:
        """Whether the model was trained on this dataset, as it is now."""
        return self.dataset.name == self.facts.dataset and dataset_fingerprint(self.dataset) == self.facts.fingerprint

    @cached_property
    def total(self) -> int:
        """How many rows there are."""
        return len(self._rows_of_split) + len(self._left_out)

    @property
    def notes(self) -> list[str]:
        """What a user should know of them, a line each."""
        table, found = load_table(self.dataset), []
        num = int((table.split[self._rows_of_split] == "train").sum())
        if num and self.is_own:
            found.append(
                f"{num:,} of {self.total:,} rows are of the training split, which the model has seen with their "
                "labels: --split val or test leaves them out"
            )
        if table.problems:
            found.append(
                f"{len(table.problems):,} problems in the files, the first: {table.problems[0]} "
                f"(all: {self.dataset.check_command})"
            )
        unknown_split = sum(not one.split for one in table.left_out)
        if self.split is not None and unknown_split:
            found.append(
                f"of {unknown_split:,} rows that cannot be used the split is not known: they are in the output without "
                "--split"
            )
        return found

    def tables(self, size: int) -> Iterator[pyarrow.Table]:
        """All rows, ``size`` to a table; those that cannot be used are in their place, with the reason."""
        return in_tables(self._in_file_order(), size)

    def _in_file_order(self) -> Iterator[dict[str, Any]]:
        read, waiting = self._row_reader(), [*reversed(self._left_out)]
        for row in self._rows_of_split.tolist():
            while waiting and waiting[-1].before <= row:
                yield _broken(waiting.pop())
            yield read(row)
        yield from map(_broken, reversed(waiting))

    def tables_of(self, rows: np.ndarray, size: int) -> Iterator[pyarrow.Table]:
        """Rows by their numbers in the dataset, ``size`` to a table."""
        return in_tables(map(self._row_reader(), rows.tolist()), size)

    @cached_property
    def _rows_of_split(self) -> np.ndarray:
        split = load_table(self.dataset).split
        return np.arange(len(split)) if self.split is None else np.flatnonzero(split == self.split)

    @cached_property
    def _left_out(self) -> list[LeftOut]:
        return [one for one in load_table(self.dataset).left_out if self.split in (None, one.split)]

    def _row_reader(self) -> Any:
        """A function from a row's number to the row."""
        table, facts, reads = load_table(self.dataset), self.facts, self.reads
        cells, images = Cells(normalise=facts.columns.is_normalised), table.images
        graph = None if facts.graph is None else table.graphs.get(facts.graph)
        numbers = [table.numeric_names.index(scale.name) for scale in facts.numeric]
        text_numbers = [(name, table.numeric_names.index(name)) for name in facts.columns.text_numbers]
        categories = [
            (table.categorical[name], known_values(known, cells)) for name, known in facts.categorical.items()
        ]

        def read(row: int) -> dict[str, Any]:
            found: dict[str, Any] = {"id": table.ids[row]}
            if "text" in reads and table.texts is not None:
                fields: list[tuple[str, float | str | None]] = []
                if table.numeric is not None:
                    fields += [(name, float(table.numeric[row, at])) for name, at in text_numbers]
                fields += [(name, table.categorical[name][row]) for name in facts.columns.text_categories]
                found["text"] = with_fields(table.texts[row], fields)
            if "image" in reads and isinstance(images, ImageFiles):
                found["path"] = str(images.root / images.names[row])
            elif "image" in reads and images is not None:
                found["picture"] = images[row]
            if "numeric" in reads and table.numeric is not None:
                found["numeric"] = table.numeric[row, numbers].astype(float).tolist()
            if "categorical" in reads:
                values = [(column[row], find) for column, find in categories]
                found["categorical"] = [None if value is None else find(value) for value, find in values]
            if "graph" in reads and graph is not None:
                found["neighbours"] = graph.nodes[graph.offsets[row] : graph.offsets[row + 1]].tolist()
            return found

        return read


def _broken(one: LeftOut) -> dict[str, Any]:
    return {"id": one.id, "error": one.why}
