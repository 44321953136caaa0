"""The CSV files of a study as typed pandas columns, read once as long as they stay as they are.

What a cell means is said by :func:`mmtune.records.read_csv` and :func:`mmtune.records.parse_cell`; here Arrow reads the
same columns at once, and what it cannot read goes cell by cell.
"""

from __future__ import annotations

import contextlib
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv

from mmtune import records

# Never parsed: an error may read "nan" or "12".
TEXT_COLUMNS = ("study", "trial", "state", "family", records.DEVICE, "error")
TIME_COLUMNS = ("time", "started", "ended")
_FEW = 100
_PIECE = 2**20  # bytes


def read_reports(path: Path) -> pd.DataFrame:
    """reports.csv, its rows by trial in the order written, with two more columns; not to be changed.

    ``cumulative_device_seconds`` is what the trial had cost by then. ``is_current`` is False for an epoch
    that a resumed trial trained again.
    """
    return _read_reports(path, stamp(path))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a study's CSV with parsed cells, None where they are empty; text and times stay text."""
    columns = {
        name: cells.to_pylist() if name in TIME_COLUMNS else values(_series(name, cells))
        for name, cells in (_cells(path) if path.exists() else {}).items()
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def damaged_lines(path: Path) -> int:
    """How many lines of reports.csv or trials.csv cannot be read."""
    if not path.exists():
        return 0
    num_rows = len(read_reports(path)) if path.name == "reports.csv" else len(read_rows(path))
    with path.open("rb") as file:
        num_lines = sum(piece.count(b"\n") for piece in iter(lambda: file.read(_PIECE), b""))
    return max(0, num_lines - 1) - num_rows  # a cell has no line breaks


def stamp(path: Path) -> tuple[int, int] | None:
    """Size and mtime of a file, which stays as it is while they do; None if there is none."""
    try:
        facts = path.stat()
    except FileNotFoundError:
        return None
    return facts.st_size, facts.st_mtime_ns


def column(name: str, values: list[Any]) -> pd.Series:
    """Parsed cells as the column ``name`` of a table; None is missing."""
    if name in TEXT_COLUMNS:
        return pd.Series(["" if value is None else value for value in values], dtype="str")
    if name in TIME_COLUMNS:
        return pd.to_datetime(pd.Series(values, dtype="object"), utc=True, format="ISO8601")
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool} and None not in values:
        return pd.Series(values, dtype="bool")
    if kinds == {int}:
        return pd.Series(values, dtype="Int64")
    return pd.Series(values, dtype="float64" if kinds <= {int, float} else "object")


def numbers(table: pd.DataFrame, name: str) -> np.ndarray:
    """A column as floats, NaN where it has none; all NaN if there is no such column."""
    if name not in table:
        return np.full(len(table), np.nan)
    return table[name].to_numpy(dtype="float64", na_value=np.nan)


def values(cells: pd.Series) -> list[Any]:
    """A column as plain values; None is missing."""
    return cells.astype("object").where(cells.notna(), None).to_list()


@lru_cache(maxsize=8)  # a command asks for the same studies several times
def _read_reports(path: Path, of: tuple[int, int] | None) -> pd.DataFrame:
    cells = {} if of is None else _cells(path)
    table = pd.DataFrame({name: _series(name, cells.pop(name)) for name in list(cells)})
    if table.empty:
        return pd.DataFrame({"trial": [], "is_current": []})
    codes, _ = pd.factorize(table["trial"])
    order = np.argsort(codes, kind="stable")
    table = table.take(order).reset_index(drop=True)
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    seconds = np.nan_to_num(numbers(table, "device_seconds"))
    epochs = numbers(table, "epoch")
    spent, is_current = np.empty(len(table)), np.empty(len(table), dtype=bool)
    for begin, end in zip(starts, [*starts[1:], len(table)], strict=True):
        spent[begin:end] = seconds[begin:end].cumsum()
        earliest_later = np.minimum.accumulate(np.append(epochs[begin + 1 : end], np.inf)[::-1])[::-1]
        is_current[begin:end] = epochs[begin:end] < earliest_later
    return table.assign(cumulative_device_seconds=spent, is_current=is_current)


def _cells(path: Path) -> dict[str, pa.ChunkedArray]:
    """Each column as text; null is an empty cell."""
    data = path.read_bytes()
    whole = pa.py_buffer(data).slice(0, data.rfind(b"\n") + 1)  # without a line that was cut short
    if not whole.size:
        return {}
    try:
        names = csv.open_csv(pa.BufferReader(whole)).schema.names
        table = csv.read_csv(
            pa.BufferReader(whole),
            parse_options=csv.ParseOptions(newlines_in_values=True, invalid_row_handler=lambda row: "skip"),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), null_values=[""], strings_can_be_null=True
            ),
        )
        if table.num_rows:
            records.check_columns(path, table.schema.names)
        if not _is_sound(table):
            raise pa.ArrowInvalid(f"{path} has damaged rows")
    except (pa.ArrowInvalid, UnicodeDecodeError):
        rows = records.read_csv(path)
        table = pa.table({name: [row[name] or None for row in rows] for name in (rows[0] if rows else ())})
        table = table.cast(pa.schema(dict.fromkeys(table.schema.names, pa.string())))
    return dict(zip(table.schema.names, table.columns, strict=True))


def _is_sound(table: pa.Table) -> bool:
    """Whether :func:`mmtune.records.read_csv` would keep every row."""
    names = set(table.schema.names)
    patterns = {"epoch": r"\d+", "state": "|".join(records.STATES), "trial": r"t\d{4,}"}
    for name in names & {"epoch", "state"} and names & patterns.keys():
        if not all(re.fullmatch(patterns[name], cell or "") for cell in table[name].unique().to_pylist()):
            return False
    for name in filter(records.is_number_column, names):
        table[name].cast(pa.float64())  # raises ArrowInvalid
    return True


def _series(name: str, chunks: pa.ChunkedArray) -> pd.Series:
    """A column of a table from its text."""
    cells = chunks.combine_chunks()
    if name not in (*TEXT_COLUMNS, *TIME_COLUMNS) and cells.null_count < len(cells):
        with contextlib.suppress(pa.ArrowInvalid):
            cells[:_FEW].cast(pa.int64())  # what is no integer takes Arrow long to tell
            whole = cells.cast(pa.int64())
            mask = whole.is_null().to_numpy(zero_copy_only=False)
            return pd.Series(pd.arrays.IntegerArray(whole.fill_null(0).to_numpy(), mask))
        with contextlib.suppress(pa.ArrowInvalid):
            return pd.Series(cells.cast(pa.float64()).to_numpy(zero_copy_only=False))
    encoded = cells.dictionary_encode()  # few differ: text, times, and what is no number
    parse = str if name in TEXT_COLUMNS else records.parse_cell
    parsed = [None, *(parse(text) for text in encoded.dictionary.to_pylist())]
    places = encoded.indices.fill_null(-1).to_numpy() + 1
    return column(name, [parsed[place] for place in places])
