"""Rows of new data, as a trained model reads them: unlabelled, none left out, each with why it cannot be used.

They travel as Arrow tables of the columns in ``ROWS``, from a file or a dataset to wherever the model runs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow

from trainables.data.reading.cells import NA_VALUES, Cells, known_values, read_number
from trainables.data.reading.dataset import with_fields
from trainables.data.reading.fields import BadRow, single_text
from trainables.data.reading.folder import Pictures
from trainables.messages import from_known
from trainables.modelfolder import Columns, ModelFacts

ROWS = pyarrow.schema([
    ("id", pyarrow.string()),
    ("text", pyarrow.string()),
    ("path", pyarrow.string()),  # of a picture
    ("picture", pyarrow.large_binary()),  # or its file's bytes
    ("numeric", pyarrow.list_(pyarrow.float64())),
    ("categorical", pyarrow.list_(pyarrow.string())),
    ("neighbours", pyarrow.list_(pyarrow.int64())),
    ("error", pyarrow.string()),  # why the row cannot be used
])  # fmt: skip
_LOOKED_UP = 10_000  # rows after which what is known of picture files is forgotten


def needed_columns(columns: Columns) -> dict[str, str]:
    """Column -> what a model reads there; an id may be missing."""
    named = [*((name, "text") for name in columns.text), (columns.image, "image")]
    named += [(name, "text") for name in (*columns.text_numbers, *columns.text_categories)]
    named += [(name, "numeric") for name in columns.numeric] + [(name, "categorical") for name in columns.categorical]
    return {name: modality for name, modality in named if name is not None}


def check_columns(columns: Columns, there: Iterable[str], where: object) -> None:
    """Returns if ``there`` is all that a model reads.

    Raises:
        ValueError: the first column that is not.
    """
    names = [*there]
    for name, modality in needed_columns(columns).items():
        if name not in names:
            raise no_column(name, modality, names, where=where)


def no_column(name: str, modality: str, there: Collection[str], *, where: object) -> ValueError:
    """The error to raise where a model reads a column that is not there."""
    return ValueError(f"{where}: no column {name!r}, which the model reads as {modality}{from_known(name, there)}")


class RowReader:
    """Reads rows by what their columns are called.

    Args:
        facts: the model's.
        columns: what is read from where; None as it was trained.
        root: the folder that paths of pictures are below; None takes any path.
    """

    def __init__(self, facts: ModelFacts, *, columns: Columns | None = None, root: Path | None = None) -> None:
        self.columns = columns or facts.columns
        words = self.columns.na_values
        self.cells = Cells(frozenset(NA_VALUES if words is None else words), self.columns.is_normalised)
        self._root, self._looked_up, self._may_be_missing = root, 0, facts.reads_regions
        self._pictures = None if root is None else Pictures(root, may_be_missing=self._may_be_missing)
        self._known = {name: known_values(facts.categorical.get(name, ()), self.cells) for name in facts.categorical}

    def read(self, row: Mapping[str, Any] | str, place: str) -> dict[str, Any]:
        """A row by the columns of ``ROWS``; of one that cannot be used the id and the reason.

        Args:
            row: its cells by column, or why there are none.
            place: where it is, which names a row without an id.
        """
        if isinstance(row, str):
            return {"id": place, "error": row}
        columns, id = self.columns, place
        try:
            if columns.id is not None:
                id = self.cells.id(single_text(row, columns.id)) or place
            found: dict[str, Any] = {"id": id}
            if columns.text:
                found["text"] = " ".join(filter(None, (single_text(row, name) for name in columns.text)))
                found["text"] = with_fields(found["text"], self._fields(row))
            if columns.numeric:
                found["numeric"] = [self._number(row, name) for name in columns.numeric]
            if columns.categorical:
                found["categorical"] = [self._category(row, name) for name in columns.categorical]
            if columns.image is not None:
                found |= self._image(row, columns.image)
        except BadRow as error:
            return {"id": id, "error": str(error)}
        return found

    def _number(self, row: Mapping[str, Any], name: str) -> float:
        try:
            return read_number(row.get(name), self.cells)[0]
        except ValueError as error:
            raise BadRow(f"{name!r} {error}") from None

    def _fields(self, row: Mapping[str, Any]) -> list[tuple[str, float | str | None]]:
        """What stands in front of the text."""
        found: list[tuple[str, float | str | None]] = []
        found += [(name, self._number(row, name)) for name in self.columns.text_numbers]
        for name in self.columns.text_categories:
            text = single_text(row, name)
            found.append((name, None if self.cells.is_missing(text) else text))
        return found

    def _category(self, row: Mapping[str, Any], name: str) -> str | None:
        text = single_text(row, name)
        return self._known[name](text) if text and not self.cells.is_missing(text) else None

    def _image(self, row: Mapping[str, Any], name: str) -> dict[str, Any]:
        value = row.get(name)
        if isinstance(value, Mapping):  # as Hugging Face datasets write pictures
            value = value.get("bytes") or value.get("path")
        if isinstance(value, bytes | bytearray | memoryview):
            if not value:
                raise BadRow(f"no bytes in {name!r}")
            return {"picture": bytes(value)}
        path = single_text({name: str(value) if isinstance(value, Path) else value}, name)
        if not path:
            raise BadRow(f"no picture in {name!r}")
        if self._root is None or self._pictures is None:
            return {"path": path}
        self._looked_up += 1
        if self._looked_up % _LOOKED_UP == 0:
            self._pictures = Pictures(self._root, may_be_missing=self._may_be_missing)
        found, reason = self._pictures.find(path)
        if reason is not None:
            raise BadRow(reason)
        return {"path": str(self._root / found)}


def in_tables(rows: Iterable[dict[str, Any]], size: int) -> Iterator[pyarrow.Table]:
    """Rows by the columns of ``ROWS``, ``size`` to a table."""
    waiting = iter(rows)
    while part := [*islice(waiting, size)]:
        columns = {name: [row.get(name) for row in part] for name in ROWS.names}
        yield pyarrow.table(columns, schema=ROWS)


def one_row(facts: ModelFacts, values: Mapping[str, Any]) -> pyarrow.Table:
    """A single row as a table, whatever of it is missing counting as missing.

    Raises:
        ValueError: it cannot be used.
    """
    row = RowReader(facts).read(values, "row")
    if row.get("error"):
        raise ValueError(row["error"])
    return next(in_tables([row], 1))


def mapped_rows(facts: ModelFacts, rows: Iterable[Mapping[str, Any]], *, root: Path | None) -> Iterator[dict[str, Any]]:
    """Rows of Python, named by their number from 0 where they have no id.

    Raises:
        ValueError: the first lacks a column.
    """
    reader = RowReader(facts, root=root)
    for at, row in enumerate(rows):
        if at == 0:
            check_columns(reader.columns, row, "the first row")
        yield reader.read(row, str(at))
