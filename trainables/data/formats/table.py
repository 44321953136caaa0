"""Any CSV, TSV, Parquet or JSON-lines file, described by a ``table.yaml`` in the data folder
(:mod:`trainables.data.reading.tablefile`).

Files are read row by row; columns that are not named are not kept.
Without splits the rows are divided 80/10/10 by the hash of id or group, evenly over the first target's classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from trainables.data.reading.folder import data_folder, missing
from trainables.data.reading.parquet import ParquetImages, holds_pictures, open_parquet, parquet_rows
from trainables.data.reading.rows import BadRow, Rows, clean, show
from trainables.data.reading.splits import hash_split
from trainables.data.reading.table import Table, Target
from trainables.data.reading.tablefile import SPLIT_NAMES, LabelSpec, TableSpec, load_table_spec, raise_problems
from trainables.data.reading.targets import multiclass, multilabel, regression
from trainables.data.reading.textfiles import csv_header, csv_rows, json_lines
from trainables.messages import from_known

SUMMARY = "any csv, tsv, parquet or jsonl file, described by a table.yaml beside it"
IS_EMBEDDED = False
TARGETS: dict[str, str] = {}  # those of table.yaml

_NAME = "table"
_LAYOUTS = ("table.yaml and the files that it names; see docs/datasets.md",)


def sources(data_dir: str | None) -> list[Path]:
    """table.yaml and the files that it names.

    Raises:
        ValueError: no folder, no table.yaml, or something wrong with it.
    """
    root = data_folder(_NAME, data_dir)
    return [root / "table.yaml", *(path for path, _ in _spec_of(root).files)]


def read(data_dir: str | None) -> Table:
    """All rows whose id, picture and split can be used.

    Raises:
        ValueError: as for :func:`sources`, a file that cannot be read at all, or a group that is in two splits.
    """
    root = data_folder(_NAME, data_dir)
    spec, rows = _spec_of(root), Rows(_NAME, root)
    picture_column = _check_columns(root, spec)
    known: dict[str, str] = {}  # one string for each different label or category
    for file, (path, file_split) in enumerate(spec.files):
        place = path.relative_to(root).as_posix()
        for line, row in _rows_of(path, spec, rows, picture_column):
            with rows.at(path, line):
                id = f"{place}-{line}" if spec.id is None else _text(row, spec.id)
                if not id:
                    raise BadRow(f"no {spec.id!r}")
                if picture_column and not row[picture_column]:
                    raise BadRow(f"no bytes in {picture_column!r}")
                rows.add(
                    id=id,
                    split=file_split or _split(row, spec.split),
                    text=" ".join(filter(None, (_text(row, name) for name in spec.text))) if spec.text else None,
                    image=_text(row, spec.image) if spec.image and not picture_column else None,
                    place=(file, line - 1) if picture_column else None,
                    group=None if spec.group is None else _text(row, spec.group) or id,
                    **{f"label {name}": _label(row, label, rows, known) for name, label in spec.labels.items()},
                    **{f"numeric {name}": _number(row, name, rows) for name in spec.numeric},
                    **{f"categorical {name}": _category(row, name, known) for name in spec.categorical},
                )
    rows.check()
    targets = {name: _target(root, name, label, rows.column(f"label {name}")) for name, label in spec.labels.items()}
    places = np.array(rows.column("place"), np.int64) if picture_column else None
    return rows.table(
        targets,
        split=_splits(root, spec, rows),
        images=None
        if places is None
        else ParquetImages([path for path, _ in spec.files], picture_column or "", places),
        numeric={name: rows.column(f"numeric {name}") for name in spec.numeric},
        categorical={name: rows.column(f"categorical {name}") for name in spec.categorical},
    )


def _spec_of(root: Path) -> TableSpec:
    path = root / "table.yaml"
    if not path.exists():
        raise missing(_NAME, root, "table.yaml", _LAYOUTS)
    return load_table_spec(path)


# --- files ------------------------------------------------------------------------------------------
def _delimiter(path: Path) -> str:
    return "\t" if ".tsv" in path.suffixes else ","


def _check_columns(root: Path, spec: TableSpec) -> str | None:
    """The column of Parquet files that holds pictures themselves, if there is one.

    Raises:
        ValueError: columns that a file does not have.
    """
    problems, holding = [], []
    for path, _ in spec.files:
        if ".jsonl" in path.suffixes:
            continue  # seen when read
        if path.suffix == ".parquet":
            with open_parquet(path) as file:
                schema = file.schema_arrow
            names = schema.names
            if spec.image in names and holds_pictures(schema.field(spec.image).type):
                holding.append(path)
        else:
            names = csv_header(path, delimiter=_delimiter(path))
        for column, key in spec.columns.items():
            if column not in names:
                problems.append(f"{key}: {path.name} has no column {column!r}{from_known(column, names)}")
    if holding and len(holding) < len(spec.files):
        problems.append(f"image: {spec.image!r} has bytes in {holding[0].name} and not in all files")
    raise_problems(root / "table.yaml", problems)
    return spec.image if holding else None


def _rows_of(
    path: Path, spec: TableSpec, rows: Rows, picture_column: str | None
) -> Iterator[tuple[int, dict[str, Any]]]:
    columns = spec.columns
    if path.suffix == ".parquet":
        yield from parquet_rows(path, [name for name in columns if name != picture_column], picture_column)
    elif ".jsonl" in path.suffixes:
        seen: dict[str, None] = {}
        for line, row in json_lines(path, rows.note):
            seen.update(dict.fromkeys(row))
            yield line, row
        for column, key in columns.items():
            if column not in seen:
                where = rows.root / "table.yaml"
                raise ValueError(f"{where}: {key}: {path.name} has no column {column!r}{from_known(column, [*seen])}")
    else:
        yield from csv_rows(path, rows.note, delimiter=_delimiter(path))


# --- values -----------------------------------------------------------------------------------------
def _text(row: dict[str, Any], column: str) -> str:
    """A value as text: 3.0 is '3' (a column of whole numbers with gaps), nothing is ''."""
    value = row.get(column)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bytes | dict | list):
        raise BadRow(f"{column!r} is no single value: {show(value)}")
    return clean(str(value)).strip()


def _category(row: dict[str, Any], column: str, known: dict[str, str]) -> str | None:
    value = _text(row, column)
    return known.setdefault(value, value) if value else None


def _number(row: dict[str, Any], column: str, rows: Rows) -> float:
    """NaN where there is none; what is no number is noted."""
    value = row.get(column)
    try:
        number = math.nan if value is None or value == "" else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.inf
    if math.isinf(number):
        rows.note(*rows.place, f"{column!r} is {show(value)}, no number: taken as missing")
        return math.nan
    return number


def _label(row: dict[str, Any], label: LabelSpec, rows: Rows, known: dict[str, str]) -> Any:
    if label.kind == "regression":
        return _number(row, label.column, rows)
    if label.kind == "multiclass":
        return _category(row, label.column, known)
    value = row.get(label.column)
    if isinstance(value, list):
        names = [_text({"name": name}, "name") for name in value]
    else:
        text = _text(row, label.column)
        if not text:
            return None
        names = text.split(label.separator) if label.separator else [text]
    return tuple(known.setdefault(name, name) for name in (name.strip() for name in names) if name)


def _split(row: dict[str, Any], column: str | None) -> str:
    if column is None:
        return ""
    value = _text(row, column)
    if value not in SPLIT_NAMES:
        raise BadRow(f"{column!r} is {value!r}, none of {', '.join(SPLIT_NAMES)}")
    return SPLIT_NAMES[value]


# --- the whole table --------------------------------------------------------------------------------
def _target(root: Path, name: str, label: LabelSpec, values: list[Any]) -> Target:
    try:
        if label.kind == "regression":
            return regression(values)
        return multiclass(values) if label.kind == "multiclass" else multilabel(values)
    except ValueError as error:
        raise ValueError(f"{root / 'table.yaml'}: labels.{name}: column {label.column!r}: {error}") from None


def _splits(root: Path, spec: TableSpec, rows: Rows) -> np.ndarray:
    groups = rows.column("group") if spec.group is not None else None
    if spec.split is None and all(split is None for _, split in spec.files):
        name, first = next(iter(spec.labels.items()))
        strata = rows.column(f"label {name}") if first.kind == "multiclass" else None
        return hash_split(rows.ids, strata=strata, groups=groups)
    split_of: dict[str, str] = {}
    for group, split in zip(groups or (), rows.splits, strict=groups is not None):
        if split_of.setdefault(group, split) != split:
            raise ValueError(f"{root / 'table.yaml'}: group: {group!r} is in splits {split_of[group]} and {split}")
    return np.array(rows.splits, "<U5")
