"""A file that grows by tables of rows and is whole at its end: Parquet, CSV or JSON lines, by its name."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.files import replacing

if TYPE_CHECKING:
    import pyarrow

SUFFIXES = (".parquet", ".csv", ".jsonl")
_GROUP_ROWS, _GROUP_BYTES = 65_536, 32 * 2**20  # a row group of Parquet has as many, or as much

Write = Callable[["pyarrow.Table"], None]


def check_name(path: Path) -> None:
    """Returns if a file of that name can be written.

    Raises:
        ValueError: it is a folder, or ends in something else.
    """
    if path.is_dir():
        raise ValueError(f"--out {path}: is a folder; name a file in it")
    if not path.name.lower().endswith(SUFFIXES):
        raise ValueError(f"--out {path}: ends in none of {', '.join(SUFFIXES)}")


@contextmanager
def row_file(path: Path) -> Iterator[Write]:
    """A function that appends a table; the file is there when the block is over, and not if there was an error."""
    with ExitStack() as stack:
        temporary = stack.enter_context(replacing(path))
        if path.name.lower().endswith(".parquet"):
            yield stack.enter_context(_parquet(temporary))
        else:
            file = stack.enter_context(temporary.open("w", encoding="utf-8", newline=""))
            yield _csv(file) if path.name.lower().endswith(".csv") else _jsonl(file)


@contextmanager
def _parquet(path: Path) -> Iterator[Write]:
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    waiting: list[pyarrow.Table] = []
    writer: ParquetWriter | None = None

    def flush() -> None:
        nonlocal writer
        table = pyarrow.concat_tables(waiting)
        waiting.clear()
        if writer is None:
            writer = ParquetWriter(path, table.schema)
        writer.write_table(table, row_group_size=_GROUP_ROWS)

    def write(table: pyarrow.Table) -> None:
        waiting.append(table)
        if sum(len(part) for part in waiting) >= _GROUP_ROWS or sum(part.nbytes for part in waiting) >= _GROUP_BYTES:
            flush()

    try:
        yield write
        if waiting:
            flush()
    finally:
        if writer is not None:
            writer.close()


def _csv(file: Any) -> Write:
    """Lists are JSON, what is missing is empty."""
    rows, has_header = csv.writer(file), False

    def write(table: pyarrow.Table) -> None:
        nonlocal has_header
        if not has_header:
            rows.writerow(table.column_names)
            has_header = True
        columns = [map(_cell, column.to_pylist()) for column in table.columns]
        rows.writerows(zip(*columns, strict=True))

    return write


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value


def _jsonl(file: Any) -> Write:
    def write(table: pyarrow.Table) -> None:
        for row in table.to_pylist():
            file.write(json.dumps(row, ensure_ascii=False) + "\n")

    return write
