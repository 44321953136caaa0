"""Rows of a table while its files are read: what cannot be used becomes a line in ``problems``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from trainables.data.reading.folder import Pictures
from trainables.data.reading.table import ImageFiles, Neighbours, Table, Target


class BadRow(Exception):
    """Why a row cannot be used; caught by :meth:`Rows.at`."""


class Rows:
    """Collects rows. A block under ``with rows.at(path, line):`` that raises BadRow is noted and left.

    Args:
        dataset: its name, for messages.
        root: the dataset's folder; paths in problems and pictures are relative to it.
    """

    def __init__(self, dataset: str, root: Path) -> None:
        self.dataset, self.root = dataset, root
        self.pictures = Pictures(root)
        self.ids: list[str] = []
        self.splits: list[str] = []
        self.texts: list[str | None] = []
        self.images: list[str | None] = []
        self.problems: list[str] = []
        self._columns: dict[str, list[Any]] = {}
        self._seen: set[str] = set()
        self.place: tuple[Path, int | None] = (root, None)  # that the next problem is about

    def __len__(self) -> int:
        return len(self.ids)

    def at(self, path: Path, line: int | None = None) -> Self:
        """The place that the next problem is about."""
        self.place = (path, line)
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, BadRow):
            self.note(*self.place, str(error))
            return True
        return False

    def note(self, path: Path, line: int | None, why: str) -> None:
        """Adds a problem."""
        name = path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)
        place = "" if line is None else f" {'row' if path.suffix == '.parquet' else 'line'} {line}"
        self.problems.append(f"{name}{place}: {why}")

    def add(
        self, *, id: str, split: str = "", text: str | None = None, image: str | None = None, **columns: Any
    ) -> None:
        """Adds a row; ``columns`` are for the reader, the same names in every row.

        Raises:
            BadRow: the id was there before, or the picture cannot be used.
        """
        if id in self._seen:
            raise BadRow(f"id {id} was there before")
        if clean(id) != id:
            raise BadRow(f"id {clean(id)} is not UTF-8")
        reason = None if image is None else self.pictures.problem(image)
        if reason is not None:
            raise BadRow(reason)
        if not self.ids:
            self._columns = {name: [] for name in columns}
        assert columns.keys() == self._columns.keys()
        self._seen.add(id)
        self.ids.append(id)
        self.splits.append(split)
        self.texts.append(text)
        self.images.append(image)
        for name, value in columns.items():
            self._columns[name].append(value)

    def column(self, name: str) -> list[Any]:
        """What the reader gave under ``name``, one value a row."""
        return self._columns[name]

    def check(self) -> None:
        """Raises ValueError if there is no row."""
        if not self.ids:
            first = f"; {len(self.problems)} problems, the first: {self.problems[0]}" if self.problems else ""
            raise ValueError(f"dataset {self.dataset}: {self.root} has no row that can be used{first}")

    def table(
        self,
        targets: dict[str, Target],
        *,
        split: np.ndarray | None = None,
        images: Sequence[bytes] | None = None,
        numeric: Mapping[str, Sequence[float]] | None = None,
        categorical: Mapping[str, Sequence[str | None]] | None = None,
        graph: Neighbours | None = None,
    ) -> Table:
        """The table; texts and pictures are None where no row has any.

        Args:
            split: given here where the files have none.
            images: where pictures are not files.
            numeric: by column, NaN where missing.
        """
        names = [name for name in self.images if name is not None]
        assert len(names) in (0, len(self.ids)), "either all rows have pictures or none"
        has_text = any(text is not None for text in self.texts)
        return Table(
            ids=self.ids,
            split=np.array(self.splits, "<U5") if split is None else split,
            targets=targets,
            texts=[text or "" for text in self.texts] if has_text else None,
            images=ImageFiles(self.root, names) if names else images,
            numeric=np.stack([np.asarray(values, np.float32) for values in numeric.values()], 1) if numeric else None,
            numeric_names=tuple(numeric or ()),
            categorical=dict(categorical or {}),
            graph=graph,
            problems=self.problems,
        )


def text_of(row: Mapping[str, Any], key: str, *, default: str | None = None) -> str:
    """``row[key]`` where it is a text, stripped.

    Args:
        default: stands for a missing or null entry; None makes that a problem.

    Raises:
        BadRow: it is missing, or no text.
    """
    value = row.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise BadRow(f"no {key!r}" if value is None else f"{key!r} is no text: {show(value)}")
    return clean(value).strip()


def id_of(row: Mapping[str, Any], key: str = "id") -> str:
    """``row[key]`` as a text, from a text or a whole number.

    Raises:
        BadRow: it is missing, empty, or something else.
    """
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise BadRow(f"no {key!r}" if value in (None, "") else f"{key!r} is no id: {show(value)}")
    return clean(str(value)).strip()


def class_of(row: Mapping[str, Any], key: str, classes: Mapping[Any, str]) -> str:
    """The class that ``row[key]`` stands for.

    Raises:
        BadRow: it is missing, or stands for none.
    """
    value = row.get(key)
    if value is None:
        raise BadRow(f"no {key!r}")
    if isinstance(value, bool) or not isinstance(value, str | int) or value not in classes:
        raise BadRow(f"{key!r} is {show(value)}, none of {', '.join(dict.fromkeys(map(str, classes)))}")
    return classes[value]


def names_of(row: Mapping[str, Any], key: str) -> list[str]:
    """``row[key]`` as a list of texts without repeats.

    Raises:
        BadRow: it is missing, or no list of texts.
    """
    value = row.get(key)
    if not isinstance(value, list) or not all(isinstance(name, str) and name.strip() for name in value):
        raise BadRow(f"no {key!r}" if value is None else f"{key!r} is no list of names: {show(value)}")
    return list(dict.fromkeys(clean(name).strip() for name in value))


def clean(text: str) -> str:
    """``text`` without what no tokenizer and no file takes: lone surrogates (JSON can spell them)."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def show(value: object) -> str:
    """``value`` as a message quotes it: cut short."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
