"""Any CSV, TSV, Parquet or JSON-lines file, described by a ``table.yaml`` in the data folder
(:mod:`trainables.data.reading.tablefile`).

Files are read row by row; columns that are not named are not kept.
Without splits the rows are divided 80/10/10 by the hash of id or group, evenly over the first target's classes; without
rows in val a tenth of the training rows goes there in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from trainables.data.reading.cells import composed
from trainables.data.reading.dialect import Dialect, find_dialect
from trainables.data.reading.fields import BadRow
from trainables.data.reading.folder import data_folder, missing
from trainables.data.reading.lines import is_kind
from trainables.data.reading.parquet import ParquetImages, holds_pictures, open_parquet, parquet_rows
from trainables.data.reading.rows import Rows
from trainables.data.reading.splits import hash_split, with_validation
from trainables.data.reading.table import Table, Target
from trainables.data.reading.tablefile import SPLIT_NAMES, LabelSpec, TableSpec, load_table_spec, raise_problems
from trainables.data.reading.tablevalues import TableValues, separator_note
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
    spec = table_spec(data_dir)
    return [data_folder(_NAME, data_dir) / "table.yaml", *(path for path, _ in spec.files)]


def read(data_dir: str | None) -> Table:
    """All rows whose id, picture and split can be used.

    Raises:
        ValueError: as for :func:`sources`, a file that cannot be read at all, a column that cannot be what it is said
            to be, or a group that is in two splits.
    """
    root = data_folder(_NAME, data_dir)
    spec = table_spec(data_dir)
    rows = Rows(_NAME, root, cells=spec.cells, has_local_ids=True)
    picture_column, dialects = _check_columns(root, spec)
    values, categorical = TableValues(rows), {f"categorical {name}": name for name in spec.categorical}
    for file, (path, file_split) in enumerate(spec.files):
        place = path.relative_to(root).as_posix()
        for line, row in _rows_of(path, spec, rows, picture_column, dialects.get(path), file_split or ""):
            with rows.sample(path, line, split=file_split or ""):
                id = f"{place}-{line}" if spec.id is None else spec.cells.id(values.text(row, spec.id))
                if not id:
                    raise BadRow(f"no {spec.id!r}")
                rows.named(id)
                if picture_column and not row[picture_column]:
                    raise BadRow(f"no bytes in {picture_column!r}")
                rows.add(
                    id=id,
                    split=file_split or _split(values, row, spec.split),
                    text=" ".join(filter(None, (values.text(row, name) for name in spec.text))) if spec.text else None,
                    image=values.text(row, spec.image) if spec.image and not picture_column else None,
                    place=(file, line - 1) if picture_column else None,
                    group=None if spec.group is None else _group(values, row, spec) or id,
                    **{f"label {name}": values.label(row, name, label) for name, label in spec.labels.items()},
                    **{f"numeric {name}": values.number(row, name, f"numeric {name}") for name in spec.numeric},
                    **{what: values.category(row, name, what) for what, name in categorical.items()},
                )
    if len(rows):
        _check_rows(root, spec, rows, values)
    rows.check()
    labels = {name: _labels(name, label, rows) for name, label in spec.labels.items()}
    targets = {name: _target(root, name, label, labels[name], rows) for name, label in spec.labels.items()}
    places = np.array(rows.column("place"), np.int64) if picture_column else None
    return rows.table(
        targets,
        split=_splits(root, spec, rows, labels),
        images=None
        if places is None
        else ParquetImages(
            [path for path, _ in spec.files], _as_stored(spec.files[0][0], picture_column or ""), places
        ),
        numeric={name: rows.column(f"numeric {name}") for name in spec.numeric},
        categorical={name: rows.column(what) for what, name in categorical.items()},
    )


def table_spec(data_dir: str | None, *, needs_labels: bool = True) -> TableSpec:
    """What the folder's table.yaml says.

    Args:
        data_dir: the folder.
        needs_labels: it must name some.

    Raises:
        ValueError: as for :func:`sources`.
    """
    root = data_folder(_NAME, data_dir)
    path = root / "table.yaml"
    if not path.exists():
        raise missing(_NAME, root, "table.yaml", _LAYOUTS)
    return load_table_spec(path, needs_labels=needs_labels)


# --- files ------------------------------------------------------------------------------------------
def _check_columns(root: Path, spec: TableSpec) -> tuple[str | None, dict[Path, Dialect]]:
    """The column of Parquet files that holds pictures themselves, if there is one, and how text files are read.

    Raises:
        ValueError: columns that a file does not have.
    """
    problems, holding, dialects = [], [], {}
    for path, _ in spec.files:
        if is_kind(path, ".jsonl"):
            continue  # seen when read
        if is_kind(path, ".parquet"):
            with open_parquet(path) as file:
                schema = file.schema_arrow
            names = [composed(name) for name in schema.names]
            if spec.image in names and holds_pictures(schema.field(names.index(spec.image)).type):
                holding.append(path)
        else:
            dialects[path] = find_dialect(path, needed=spec.columns, separator=spec.separator, quote=spec.quote)
            names = csv_header(path, dialect=dialects[path])
        for column, key in spec.columns.items():
            if column not in names:
                problems.append(f"{key}: {path.name} has no column {column!r}{from_known(column, names)}")
    if holding and len(holding) < len(spec.files):
        problems.append(f"image: {spec.image!r} has bytes in {holding[0].name} and not in all files")
    raise_problems(root / "table.yaml", problems)
    return spec.image if holding else None, dialects


def _rows_of(
    path: Path, spec: TableSpec, rows: Rows, picture_column: str | None, dialect: Dialect | None, split: str
) -> Iterator[tuple[int, dict[str, Any]]]:
    columns = spec.columns
    if is_kind(path, ".parquet"):
        wanted = [_as_stored(path, name) for name in columns if name != picture_column]
        for number, row in parquet_rows(path, wanted, picture_column and _as_stored(path, picture_column)):
            yield number, row if all(map(str.isascii, row)) else {composed(name): row[name] for name in row}
    elif is_kind(path, ".jsonl"):
        seen: dict[str, None] = {}
        for line, row in json_lines(path, rows.lost(split)):
            if not all(map(str.isascii, row)):
                row = {composed(name): value for name, value in row.items()}
            seen.update(dict.fromkeys(row))
            yield line, row
        for column, key in columns.items():
            if column not in seen:
                where = rows.root / "table.yaml"
                raise ValueError(f"{where}: {key}: {path.name} has no column {column!r}{from_known(column, [*seen])}")
    else:
        yield from csv_rows(path, rows.lost(split), dialect=dialect, remark=rows.remark)


def _as_stored(path: Path, column: str) -> str:
    """The name of a Parquet file's column with its accents as they are there."""
    if column.isascii():
        return column
    with open_parquet(path) as file:
        return next(name for name in file.schema_arrow.names if composed(name) == column)


# --- rows -------------------------------------------------------------------------------------------
def _group(values: TableValues, row: dict[str, Any], spec: TableSpec) -> str | None:
    """None where it is missing: such rows do not belong together."""
    assert spec.group is not None
    group = values.text(row, spec.group)
    return None if spec.cells.is_missing(group) else spec.cells.id(group)


def _split(values: TableValues, row: dict[str, Any], column: str | None) -> str:
    if column is None:
        return ""
    value = values.text(row, column)
    if value.lower() not in SPLIT_NAMES:
        raise BadRow(f"{column!r} is {value!r}, none of {', '.join(SPLIT_NAMES)}")
    return SPLIT_NAMES[value.lower()]


def _check_rows(root: Path, spec: TableSpec, rows: Rows, values: TableValues) -> None:
    """What cannot be meant.

    Raises:
        ValueError: most rows have an id that was there before, or a column of numbers has none.
    """
    problems = []
    if spec.id is not None and rows.num_repeated >= len(rows):
        first = next(problem for problem in rows.problems if problem.endswith("was there before"))
        problems.append(
            f"id: column {spec.id!r} is no id: of {rows.num_repeated:,} rows it was there before, {len(rows):,} rows "
            f"are left; the first: {first}"
        )
    named = [("numeric", f"numeric {name}", name) for name in spec.numeric]
    named += [
        (f"labels.{name}", f"label {name}", label.column)
        for name, label in spec.labels.items()
        if label.kind == "regression"
    ]
    for key, name, column in named:
        if column in values.no_number and np.isnan(np.array(rows.column(name), float)).all():
            problems.append(f"{key}: column {column!r} has no number; the first: {values.no_number[column]}")
    raise_problems(root / "table.yaml", problems)


# --- the whole table --------------------------------------------------------------------------------
def _labels(name: str, label: LabelSpec, rows: Rows) -> list[Any]:
    """The labels of all rows, their spellings made one; None where there is none."""
    values = rows.column(f"label {name}")
    if label.kind == "regression":
        return values
    if label.kind == "multiclass":
        return rows.names(f"label {name}", values, unit="label")
    found = rows.sets(f"label {name}", values)
    note = separator_note(name, label, found)
    rows.notes += [] if note is None else [note]
    return found


def _target(root: Path, name: str, label: LabelSpec, values: list[Any], rows: Rows) -> Target:
    try:
        if label.kind == "regression":
            return regression(values)
        return multiclass(values) if label.kind == "multiclass" else multilabel(values)
    except ValueError as error:
        where = f"{root / 'table.yaml'}: labels.{name}: column {label.column!r}"
        raise ValueError(f"{where}: {rows.cause}{error}") from None


def _splits(root: Path, spec: TableSpec, rows: Rows, labels: dict[str, list[Any]]) -> np.ndarray:
    groups = rows.column("group") if spec.group is not None else None
    name, first = next(iter(spec.labels.items()))
    strata = labels[name] if first.kind == "multiclass" else None
    if spec.split is None and all(split is None for _, split in spec.files):
        return hash_split(rows.ids, strata=strata, groups=groups)
    split_of: dict[str, str] = {}
    for group, split in zip(groups or (), rows.splits, strict=groups is not None):
        if split_of.setdefault(group, split) != split:
            raise ValueError(f"{root / 'table.yaml'}: group: {group!r} is in splits {split_of[group]} and {split}")
    if "val" in {split for _, split in spec.files} and "val" not in rows.splits:
        raise ValueError(f"{root / 'table.yaml'}: files.val: {rows.cause}none is in val")
    split, note = with_validation(np.array(rows.splits, "<U5"), rows.ids, strata=strata, groups=groups)
    rows.notes += [] if note is None else [note]
    return split
