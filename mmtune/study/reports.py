"""reports.csv as rows, read by Arrow: a large study has millions of cells, for which Python takes many seconds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv

from mmtune import records

_TRIAL = re.compile(r"t\d{4,}")
_OPTIONS = csv.ConvertOptions(
    column_types={"trial": pa.string(), "time": pa.string(), "epoch": pa.int64()},
    null_values=[""], strings_can_be_null=True, true_values=["true"], false_values=["false"], timestamp_parsers=[],
)  # fmt: skip


def read_reports(path: Path) -> list[dict[str, Any]]:
    """:func:`mmtune.records.read_rows`, which still reads whatever is damaged; a column of numbers has one type.

    Raises:
        ValueError: the file is no text.
    """
    data = path.read_bytes() if path.exists() else b""
    whole = pa.py_buffer(data).slice(0, data.rfind(b"\n") + 1)  # without a line that was cut short
    try:
        table = csv.read_csv(pa.BufferReader(whole), convert_options=_OPTIONS)
        is_sound = _is_sound(table)
    except (pa.ArrowInvalid, UnicodeDecodeError):
        is_sound, table = False, None
    if table is None or not is_sound:
        return records.read_rows(path)
    columns = [_values(column) for column in table.columns]
    return [dict(zip(table.schema.names, row, strict=True)) for row in zip(*columns, strict=True)]


def _is_sound(table: pa.Table) -> bool:
    """Whether Python would keep every row, and read in it what Arrow has read."""
    names, types = table.schema.names, pa.types
    if len({*names}) < len(names) or not {"trial", "epoch"} <= {*names} or not table.num_rows:
        return False
    for field in table.schema:
        is_number = types.is_floating(field.type) or types.is_integer(field.type) or types.is_null(field.type)
        is_other = types.is_string(field.type) or types.is_boolean(field.type)
        if not is_number and (records.is_number_column(field.name) or not is_other):
            return False
    trial, epoch = table["trial"], table["epoch"]
    is_whole = not trial.null_count and not epoch.null_count and min(epoch.unique().to_pylist()) >= 0
    return is_whole and all(map(_TRIAL.fullmatch, trial.unique().to_pylist()))


def _values(column: pa.ChunkedArray) -> list[Any]:
    if pa.types.is_string(column.type):
        known = {text: None if text is None else records.parse_cell(text) for text in column.unique().to_pylist()}
        return [known[text] for text in column.to_pylist()]
    if pa.types.is_floating(column.type) and not column.null_count:
        return column.to_numpy().tolist()
    return column.to_pylist()
