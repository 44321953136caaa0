"""Files of new rows (CSV, TSV, Parquet, JSON lines), read in their order, few rows in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow

from trainables.data.reading.cells import composed
from trainables.data.reading.dialect import Dialect, find_dialect
from trainables.data.reading.lines import is_kind, read_lines
from trainables.data.reading.newrows import RowReader, check_columns, in_tables, needed_columns
from trainables.data.reading.parquet import open_parquet, parquet_cells
from trainables.data.reading.textfiles import csv_header, csv_rows, json_lines
from trainables.modelfolder import Columns, ModelFacts


@dataclass(frozen=True)
class NewFiles:
    """Rows of files.

    Attributes:
        facts: what the model that reads them knows.
        root: the folder that pictures' paths are below.
        files: each a CSV, TSV, Parquet or JSON-lines file.
        columns: what is read from where.
        separator: between the fields of text files; None is found out.
        quote: what fields stand between; False is nothing, None is found out.
    """

    facts: ModelFacts
    root: Path
    files: tuple[Path, ...]
    columns: Columns
    separator: str | None = None
    quote: str | bool | None = None

    def check(self) -> None:
        """Returns if there are rows and every file has the columns that the model reads.

        Raises:
            ValueError: what is wrong with the first that has not.
        """
        for path in self.files:
            check_columns(self.columns, self._columns_there(path), path)
        if self.total == 0:
            raise ValueError(f"{', '.join(map(str, self.files))}: has no row")

    @cached_property
    def total(self) -> int:
        """How many rows there are; of text files lines, of which a row may have several."""
        return sum(_num_rows(path) for path in self.files)

    def tables(self, size: int) -> Iterator[pyarrow.Table]:
        """All rows, ``size`` to a table."""
        return in_tables(self._rows(), size)

    def _rows(self) -> Iterator[dict[str, Any]]:
        reader = RowReader(self.facts, columns=self.columns, root=self.root)
        for path in self.files:
            place = path.relative_to(self.root).as_posix()
            for line, row in self._cells(path):
                yield reader.read(row, f"{place}-{line}")

    def _cells(self, path: Path) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
        """Line numbers and rows, or why there is none."""
        if is_kind(path, ".parquet"):
            stored = {composed(name): name for name in _parquet_columns(path)}
            wanted = [stored[name] for name in (*needed_columns(self.columns), self.columns.id or "") if name in stored]
            yield from ((number, _composed(row)) for number, row in parquet_cells(path, list(dict.fromkeys(wanted))))
            return
        damaged: list[tuple[int, str]] = []  # before the row that comes next

        def note(_: Path, line: int | None, why: str) -> None:
            damaged.append((line or 0, why))

        is_json = is_kind(path, ".jsonl")
        for line, row in json_lines(path, note) if is_json else csv_rows(path, note, dialect=self._dialect(path)):
            yield from damaged
            damaged.clear()
            yield line, _composed(row)
        yield from damaged

    def _columns_there(self, path: Path) -> list[str]:
        if is_kind(path, ".parquet"):
            return [composed(name) for name in _parquet_columns(path)]
        if not is_kind(path, ".jsonl"):
            return csv_header(path, dialect=self._dialect(path))
        seen: dict[str, None] = {}
        for _, row in json_lines(path, lambda *_: None):
            seen.update(dict.fromkeys(map(composed, row)))
            if needed_columns(self.columns).keys() <= seen.keys():
                break
        return [*seen]

    def _dialect(self, path: Path) -> Dialect:
        return find_dialect(path, needed=needed_columns(self.columns), separator=self.separator, quote=self.quote)


def _composed(row: Mapping[str, Any]) -> Mapping[str, Any]:
    return row if all(map(str.isascii, row)) else {composed(name): value for name, value in row.items()}


def _parquet_columns(path: Path) -> list[str]:
    with open_parquet(path) as file:
        return file.schema_arrow.names


def _num_rows(path: Path) -> int:
    if is_kind(path, ".parquet"):
        with open_parquet(path) as file:
            return file.metadata.num_rows
    lines = sum(1 for _, data in read_lines(path) if data)
    return lines if is_kind(path, ".jsonl") else max(0, lines - 1)
