"""Writes the tiny data sets of these tests."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from trainables.data.formats import table as table_format


def png(red: int = 0, green: int = 0, blue: int = 0, size: tuple[int, int] = (4, 3)) -> bytes:
    """One colour."""
    file = io.BytesIO()
    Image.new("RGB", size, (red, green, blue)).save(file, "PNG")
    return file.getvalue()


def jsonl(*rows: Any) -> str:
    """One JSON value a line; a text goes in as it is."""
    return "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows)


def write_files(root: Path, files: Mapping[str, Any]) -> None:
    """Path below ``root`` -> bytes, text, or what is written as JSON; a name that ends in .gz is packed."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not isinstance(content, bytes | str):
            content = json.dumps(content)
        data = content.encode() if isinstance(content, str) else content
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)


def classes(table: Any, target: str | None = None) -> list[Any]:
    """The labels of a table by name, as its rows have them: None, a class, a set of classes, or a number."""
    chosen = table.targets[target or next(iter(table.targets))]
    names, found = chosen.task.classes, []
    for label, there in zip(chosen.labels[:], chosen.is_labelled, strict=True):
        if not there:
            found.append(None)
        elif chosen.task.kind == "multiclass":
            found.append(names[label])
        elif chosen.task.kind == "multilabel":
            found.append({names[at] for at in label.nonzero()[0]})
        else:
            found.append(float(label))
    return found


def by_id(table: Any, values: Any) -> dict[str, Any]:
    """``values``, one a row, by the row's id."""
    return dict(zip(table.ids, values, strict=True))


BY_SPLIT = "files: {train: a.csv, val: b.csv, test: c.csv}\ntext: t\nlabels: {y: {kind: multiclass}}\n"
ONE = "files: d.csv\ntext: t\nlabels: {y: {kind: multiclass}}\n"


def read(folder, yaml, **files):
    """The table of a folder with that table.yaml and files; in their names ``__`` stands for a dot."""
    names = {name.replace("__", "."): content for name, content in files.items()}
    write_files(folder, {"table.yaml": yaml, **names})
    return table_format.read(str(folder))


def refused(folder, yaml, **files):
    """The message that such a folder is refused with, its own path left out."""
    with pytest.raises(ValueError) as caught:
        read(folder, yaml, **files)
    return str(caught.value).replace(f"{folder}/", "")


def with_those_left_out(table: Any) -> list[str]:
    """Ids of the rows and of the samples that are none, in the order of the files."""
    found = list(table.ids)
    for one in reversed(table.left_out):
        found.insert(one.before, one.id)
    return found
