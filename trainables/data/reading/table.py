"""Table: a dataset as its format reader gives it, before any tokenizer or image size is known.

N rows. A reader drops nothing in silence: a row that it cannot use is a line in ``problems``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np

from trainables.task import Task

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Target:
    """One set of labels over the rows of a Table."""

    task: Task
    labels: np.ndarray  # (N,) int64 class index, (N, C) float32 in [0, 1] (multi-hot or soft), or (N,) float64
    is_labelled: np.ndarray  # (N,) bool: rows that take part


def root_cause(problems: Sequence[str]) -> str:
    """What to say before an error about the rows that are left: that others are not; '' if all are."""
    if not problems:
        return ""
    num = len(problems)
    return f"{num:,} row{'s' * (num != 1)} left out or repaired, the first: {problems[0]}; of the others "


@dataclass(frozen=True)
class Neighbours:
    """For each row the nodes of a graph that it is linked to: row i has ``nodes[offsets[i]:offsets[i + 1]]``."""

    nodes: np.ndarray  # int64, 0 .. num_nodes - 1
    offsets: np.ndarray  # (N + 1,) int64
    num_nodes: int


class ImageFiles(Sequence[bytes]):
    """Encoded images that stay on disk until their row is asked for.

    Args:
        root: the dataset's folder.
        names: one path a row, relative to ``root``.
    """

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        self.root, self.names = root, names

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> ImageFiles: ...
    def __getitem__(self, index: int | slice) -> bytes | ImageFiles:
        if isinstance(index, slice):
            return ImageFiles(self.root, self.names[index])
        return (self.root / self.names[index]).read_bytes()

    @property
    def stamp(self) -> str:
        """Changes when a file is added, replaced or written to (by name, size and time, not by content)."""
        digest = hashlib.sha256()
        for name in self.names:
            stat = (self.root / name).stat()
            digest.update(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
        return digest.hexdigest()


class LeftOut(NamedTuple):
    """A sample that cannot be used.

    Attributes:
        before: how many rows of the table are before it.
        id: its own, or file and line where it has none that can be read.
        why: the reason.
        split: 'train' | 'val' | 'test', '' where its files do not say.
    """

    before: int
    id: str
    why: str
    split: str = ""


@dataclass(frozen=True)
class Table:
    """Attributes that a dataset does not have are None or empty.

    Attributes:
        ids: N different sample ids.
        split: (N,) 'train' | 'val' | 'test'.
        targets: by name; the first is the default.
        texts: N texts, '' where a row has none.
        images: N encoded image files (PNG, JPEG, ...), in memory or read when asked for.
        numeric: (N, M) float64, NaN where a value is missing; never the label nor what gives it away.
        numeric_names: the M columns.
        categorical: column -> N values, None where missing; user and item ids are such columns.
        graphs: by name, what each row is linked to; the first is the default.
        problems: one line for each row that was left out or repaired: file, line or row, and why.
        notes: what was read otherwise than it is written, or may be meant otherwise: a line each, with counts.
        left_out: samples of the files that are no rows because they cannot be used, in the order of the files.
    """

    ids: list[str]
    split: np.ndarray
    targets: dict[str, Target]
    texts: list[str] | None = None
    images: Sequence[bytes] | None = None
    numeric: np.ndarray | None = None
    numeric_names: tuple[str, ...] = ()
    categorical: Mapping[str, Sequence[str | None]] = field(default_factory=dict)
    graphs: Mapping[str, Neighbours] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)

    @property
    def graph(self) -> Neighbours | None:
        """The first of the graphs."""
        return next(iter(self.graphs.values()), None)
