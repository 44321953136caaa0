"""Any CSV, TSV, Parquet or JSON-lines file, described by a ``table.yaml`` in the data folder.

    files: reviews.csv                # or a list, or {train: a.csv, val: b.csv, test: c.csv}
    text: [title, body]               # one column or several, joined
    image: picture                    # paths below the folder, or (Parquet) bytes
    labels:                           # the first is the default target
      topic: {column: topic, kind: multiclass}
      tags: {column: tags, kind: multilabel, separator: "|"}
      score: {column: score, kind: regression}
    numeric: [price]
    categorical: [brand]
    id: review_id
    group: author                     # its rows stay in one split
    split: part                       # train, val (dev, valid, validation) or test

Only ``files`` and ``labels`` must be there. Files are read row by row; columns that are not named are not kept.
Without splits the rows are divided 80/10/10 by the hash of id or group, evenly over the first target's classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import yaml

from trainables.data.reading.folder import data_folder, missing, unsafe
from trainables.data.reading.parquet import ParquetImages, holds_pictures, open_parquet, parquet_rows
from trainables.data.reading.rows import BadRow, Rows, clean, show
from trainables.data.reading.splits import hash_split
from trainables.data.reading.table import SPLITS, Table, Target
from trainables.data.reading.targets import multiclass, multilabel, regression
from trainables.data.reading.textfiles import csv_header, csv_rows, json_lines
from trainables.messages import from_known
from trainables.task import TaskKind

SUMMARY = "any csv, tsv, parquet or jsonl file, described by a table.yaml beside it"
IS_EMBEDDED = False
TARGETS: dict[str, str] = {}  # those of table.yaml

_NAME = "table"
_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet", ".jsonl", ".jsonl.gz")
_KEYS = ("files", "text", "image", "labels", "numeric", "categorical", "id", "group", "split")
_SPLITS = {name: name for name in SPLITS} | {"dev": "val", "valid": "val", "validation": "val"}
_LAYOUTS = ("table.yaml and the files that it names; see docs/datasets.md",)


def sources(data_dir: str | None) -> list[Path]:
    """table.yaml and the files that it names.

    Raises:
        ValueError: no folder, no table.yaml, or something wrong with it.
    """
    root = data_folder(_NAME, data_dir)
    return [root / "table.yaml", *(path for path, _ in _load(root).files)]


def read(data_dir: str | None) -> Table:
    """All rows whose id, picture and split can be used.

    Raises:
        ValueError: as for :func:`sources`, a file that cannot be read at all, or a group that is in two splits.
    """
    root = data_folder(_NAME, data_dir)
    spec, rows = _load(root), Rows(_NAME, root)
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


# --- table.yaml -------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Label:
    column: str
    kind: TaskKind
    separator: str | None


@dataclass(frozen=True)
class _Spec:
    files: list[tuple[Path, str | None]]  # and the split that all rows of a file are in
    text: tuple[str, ...]
    image: str | None
    labels: dict[str, _Label]
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    id: str | None
    group: str | None
    split: str | None

    @property
    def columns(self) -> dict[str, str]:
        """Column -> the key that names it first."""
        named = [
            *(("text", name) for name in self.text),
            ("image", self.image),
            *((f"labels.{name}.column", label.column) for name, label in self.labels.items()),
            *(("numeric", name) for name in self.numeric),
            *(("categorical", name) for name in self.categorical),
            ("id", self.id),
            ("group", self.group),
            ("split", self.split),
        ]
        return {column: key for key, column in reversed(named) if column is not None}


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML would keep the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for at, key in enumerate(keys):
            if key in keys[:at]:
                raise yaml.MarkedYAMLError(problem=f"{key!r} is given twice", problem_mark=node.value[at][0].start_mark)
        return super().construct_mapping(node, deep)


def _load(root: Path) -> _Spec:
    path = root / "table.yaml"
    if not path.exists():
        raise missing(_NAME, root, "table.yaml", _LAYOUTS)
    try:
        document = yaml.load(path.read_text(encoding="utf-8-sig"), _Loader)  # noqa: S506 (a SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f" line {mark.line + 1}"
        raise ValueError(f"{path}{where}: not YAML ({getattr(error, 'problem', None) or error})") from None
    problems: list[str] = []
    if not isinstance(document, dict):
        raise ValueError(f"{path}: not a mapping of keys such as files and labels")
    for key in document:
        if key not in _KEYS:
            problems.append(f"{key!r} is no key{from_known(str(key), _KEYS)}")
    spec = _Spec(
        files=_files(root, document.get("files"), problems),
        text=_names(document, "text", problems),
        image=_one(document, "image", problems),
        labels=_labels(document.get("labels"), problems),
        numeric=_names(document, "numeric", problems),
        categorical=_names(document, "categorical", problems),
        id=_one(document, "id", problems),
        group=_one(document, "group", problems),
        split=_one(document, "split", problems),
    )
    if spec.split is not None and any(split is not None for _, split in spec.files):
        problems.append("split: the files are given by split already")
    for name, label in spec.labels.items():
        for key, columns in (("text", spec.text), ("numeric", spec.numeric), ("categorical", spec.categorical)):
            if label.column in columns:
                problems.append(f"{key}: column {label.column!r} is the label '{name}'")
    _raise(path, problems)
    return spec


def _raise(path: Path, problems: Sequence[str]) -> None:
    if len(problems) == 1:
        raise ValueError(f"{path}: {problems[0]}")
    if problems:
        raise ValueError(f"{path} has {len(problems)} problems:\n" + "\n".join(f"  {problem}" for problem in problems))


def _files(root: Path, value: Any, problems: list[str]) -> list[tuple[Path, str | None]]:
    by_split = value if isinstance(value, dict) else {None: value}
    found: list[tuple[Path, str | None]] = []
    for split, names in by_split.items():
        if split is not None and split not in _SPLITS:
            problems.append(f"files: {split!r} is no split{from_known(str(split), [*_SPLITS])}")
            continue
        for name in names if isinstance(names, list) else [names]:
            if not isinstance(name, str):
                problems.append("files: missing" if name is None else f"files: {name!r} is no file name")
            elif (reason := unsafe(name)) is not None:
                problems.append(f"files: {name!r} {reason}; files must be in the folder of table.yaml")
            elif not name.endswith(_SUFFIXES):
                problems.append(f"files: {name!r} ends in none of {', '.join(_SUFFIXES)}")
            elif not (root / name).is_file():
                problems.append(f"files: {root / name} is missing")
            else:
                found.append((root / name, None if split is None else _SPLITS[split]))
    if not found and not problems:
        problems.append("files: none")
    return found


def _names(document: dict[Any, Any], key: str, problems: list[str]) -> tuple[str, ...]:
    value = document.get(key)
    values = [] if value is None else value if isinstance(value, list) else [value]
    for name in values:
        if not isinstance(name, str):
            problems.append(f"{key}: {name!r} is no column name; quote it")
    names = [name for name in values if isinstance(name, str)]
    for name in sorted({name for name in names if names.count(name) > 1}):
        problems.append(f"{key}: column {name!r} is named twice")
    return tuple(dict.fromkeys(names))


def _one(document: dict[Any, Any], key: str, problems: list[str]) -> str | None:
    value = document.get(key)
    if value is not None and not isinstance(value, str):
        problems.append(f"{key}: {value!r} is no column name")
    return value if isinstance(value, str) else None


def _labels(value: Any, problems: list[str]) -> dict[str, _Label]:
    if not isinstance(value, dict) or not value:
        problems.append("labels: missing; write 'labels: {topic: {column: topic, kind: multiclass}}'")
        return {}
    found = {}
    for name, entry in value.items():
        if not isinstance(name, str) or not isinstance(entry, dict):
            problems.append(f"labels.{name}: not a name with a column and a kind")
            continue
        for key in entry:
            if key not in ("column", "kind", "separator"):
                known = ("column", "kind", "separator")
                problems.append(f"labels.{name}: {key!r} is no key{from_known(str(key), known)}")
        column, kind, separator = entry.get("column", name), entry.get("kind"), entry.get("separator")
        if kind not in get_args(TaskKind):
            problems.append(f"labels.{name}.kind: {kind!r} is none{from_known(str(kind), get_args(TaskKind))}")
        elif not isinstance(column, str):
            problems.append(f"labels.{name}.column: {column!r} is no column name")
        elif separator is not None and (kind != "multilabel" or not isinstance(separator, str) or not separator):
            problems.append(f"labels.{name}.separator: a text that stands between the names of a multilabel column")
        else:
            found[name] = _Label(column, cast(TaskKind, kind), separator)
    return found


# --- files ------------------------------------------------------------------------------------------
def _delimiter(path: Path) -> str:
    return "\t" if ".tsv" in path.suffixes else ","


def _check_columns(root: Path, spec: _Spec) -> str | None:
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
    _raise(root / "table.yaml", problems)
    return spec.image if holding else None


def _rows_of(path: Path, spec: _Spec, rows: Rows, picture_column: str | None) -> Iterator[tuple[int, dict[str, Any]]]:
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


def _label(row: dict[str, Any], label: _Label, rows: Rows, known: dict[str, str]) -> Any:
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
    if value not in _SPLITS:
        raise BadRow(f"{column!r} is {value!r}, none of {', '.join(_SPLITS)}")
    return _SPLITS[value]


# --- the whole table --------------------------------------------------------------------------------
def _target(root: Path, name: str, label: _Label, values: list[Any]) -> Target:
    try:
        if label.kind == "regression":
            return regression(values)
        return multiclass(values) if label.kind == "multiclass" else multilabel(values)
    except ValueError as error:
        raise ValueError(f"{root / 'table.yaml'}: labels.{name}: column {label.column!r}: {error}") from None


def _splits(root: Path, spec: _Spec, rows: Rows) -> np.ndarray:
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
