"""``table.yaml``: how the files beside it are to be read.

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
    na_values: ["-", unknown]         # words that mean a missing value, instead of NaN, NA, None, null, ...
    normalise: false                  # 1 and 1.0, composed and decomposed accents stay apart
    separator: ";"                    # between the fields of text files
    quote: false                      # quotation marks hold nothing together; or the character that does

Only ``files`` must be there, and ``labels`` where a model is to be trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from trainables.data.reading.cells import NA_VALUES, Cells, composed
from trainables.data.reading.folder import FolderFiles, unsafe
from trainables.data.reading.lines import read_text
from trainables.data.reading.table import SPLITS
from trainables.messages import from_known
from trainables.task import TaskKind
from trainables.yamltree import Tree

SPLIT_NAMES = {name: name for name in SPLITS} | {"dev": "val", "valid": "val", "validation": "val"}
SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet", ".jsonl", ".jsonl.gz")
_KEYS = (
    "files", "text", "image", "labels", "numeric", "categorical", "id", "group", "split", "na_values", "normalise",
    "separator", "quote",
)  # fmt: skip


@dataclass(frozen=True)
class LabelSpec:
    """One entry of ``labels``."""

    column: str
    kind: TaskKind
    separator: str | None


@dataclass(frozen=True)
class TableSpec:
    """A checked ``table.yaml``; each of ``files`` with the split that all its rows are in, or None.

    ``separator`` and ``quote`` (False: none) are None where they are to be found out.
    """

    files: list[tuple[Path, str | None]]
    text: tuple[str, ...]
    image: str | None
    labels: dict[str, LabelSpec]
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    id: str | None
    group: str | None
    split: str | None
    cells: Cells = Cells()
    separator: str | None = None
    quote: str | bool | None = None

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


def load_table_spec(path: Path, *, needs_labels: bool = True) -> TableSpec:
    """What the file says; the files that it names are there, their columns are not looked at.

    Args:
        path: the file.
        needs_labels: it must name some.

    Raises:
        ValueError: everything that is wrong with it.
    """
    try:
        tree = Tree(read_text(path))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not YAML ({error})") from None
    for place, problem, line in tree.problems:
        where, key = "" if line is None else f" line {line}", f"{place[-1]!r} " if place else ""
        raise ValueError(f"{path}{where}: not YAML ({key}{problem})")
    document = tree.data
    problems: list[str] = []
    if not isinstance(document, dict):
        raise ValueError(f"{path}: not a mapping of keys such as files and labels")
    for key in document:
        if key not in _KEYS:
            problems.append(f"{key!r} is no key{from_known(str(key), _KEYS)}")
    spec = TableSpec(
        files=_files(path.parent, document.get("files"), problems),
        text=_names(document, "text", problems),
        image=_one(document, "image", problems),
        labels=_labels(document.get("labels"), problems) if needs_labels or "labels" in document else {},
        numeric=_names(document, "numeric", problems),
        categorical=_names(document, "categorical", problems),
        id=_one(document, "id", problems),
        group=_one(document, "group", problems),
        split=_one(document, "split", problems),
        cells=Cells(_na_values(document, problems), _normalise(document, problems), path.name),
        separator=_separator(document, problems),
        quote=_quote(document, problems),
    )
    if spec.split is not None and any(split is not None for _, split in spec.files):
        problems.append("split: the files are given by split already")
    for name, label in spec.labels.items():
        for key, columns in (("text", spec.text), ("numeric", spec.numeric), ("categorical", spec.categorical)):
            if label.column in columns:
                problems.append(f"{key}: column {label.column!r} is the label '{name}'")
    raise_problems(path, problems)
    return spec


def raise_problems(path: Path, problems: Sequence[str]) -> None:
    """Raises ValueError with all that is wrong with a file, if anything is."""
    if len(problems) == 1:
        raise ValueError(f"{path}: {problems[0]}")
    if problems:
        raise ValueError(f"{path} has {len(problems)} problems:\n" + "\n".join(f"  {problem}" for problem in problems))


def _files(root: Path, value: Any, problems: list[str]) -> list[tuple[Path, str | None]]:
    by_split = value if isinstance(value, dict) else {None: value}
    found: list[tuple[Path, str | None]] = []
    finder = FolderFiles(root)
    for split, names in by_split.items():
        if split is not None and split not in SPLIT_NAMES:
            problems.append(f"files: {split!r} is no split{from_known(str(split), [*SPLIT_NAMES])}")
            continue
        for name in names if isinstance(names, list) else [names]:
            if not isinstance(name, str):
                problems.append("files: missing" if name is None else f"files: {name!r} is no file name")
            elif (reason := unsafe(name)) is not None:
                problems.append(f"files: {name!r} {reason}; files must be in the folder of table.yaml")
            elif not name.lower().endswith(SUFFIXES):
                problems.append(f"files: {name!r} ends in none of {', '.join(SUFFIXES)}")
            elif not (root / (there := finder.find(name))).is_file():
                problems.append(f"files: {root / name} is missing")
            else:
                found.append((root / there, None if split is None else SPLIT_NAMES[split]))
    if not found and not problems:
        problems.append("files: none")
    return found


def _names(document: dict[Any, Any], key: str, problems: list[str]) -> tuple[str, ...]:
    value = document.get(key)
    values = [] if value is None else value if isinstance(value, list) else [value]
    for name in values:
        if not isinstance(name, str):
            problems.append(f"{key}: {name!r} is no column name; quote it")
    names = [composed(name) for name in values if isinstance(name, str)]
    for name in sorted({name for name in names if names.count(name) > 1}):
        problems.append(f"{key}: column {name!r} is named twice")
    return tuple(dict.fromkeys(names))


def _one(document: dict[Any, Any], key: str, problems: list[str]) -> str | None:
    value = document.get(key)
    if value is not None and not isinstance(value, str):
        problems.append(f"{key}: {value!r} is no column name")
    return composed(value) if isinstance(value, str) else None


def _labels(value: Any, problems: list[str]) -> dict[str, LabelSpec]:
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
            found[name] = LabelSpec(composed(column), cast(TaskKind, kind), separator)
    return found


def _na_values(document: dict[Any, Any], problems: list[str]) -> frozenset[str]:
    if "na_values" not in document:
        return frozenset(NA_VALUES)
    value, found = document["na_values"], set()
    for word in value if isinstance(value, list) else [value]:
        if isinstance(word, bool | dict | list):
            problems.append(f"na_values: {word!r} is no word; quote it")
        else:
            found.add("null" if word is None else str(word).strip())
    return frozenset(found)


def _normalise(document: dict[Any, Any], problems: list[str]) -> bool:
    value = document.get("normalise", True)
    if not isinstance(value, bool):
        problems.append(f"normalise: {value!r} is neither true nor false")
    return value is not False


def _separator(document: dict[Any, Any], problems: list[str]) -> str | None:
    value = document.get("separator")
    value = {"tab": "\t", "\\t": "\t"}.get(value, value) if isinstance(value, str) else value
    if value is not None and (not isinstance(value, str) or len(value) != 1 or value in "\r\n\"'"):
        problems.append(f"separator: {value!r} is no single character such as ',', ';', '|' or \"\\t\"")
        return None
    return value


def _quote(document: dict[Any, Any], problems: list[str]) -> str | bool | None:
    value = document.get("quote")
    if value is not None and not isinstance(value, bool) and (not isinstance(value, str) or len(value) != 1):
        problems.append(f'quote: {value!r} is neither false (none), true (") nor a character')
        return None
    return value
