"""``exclude.txt`` in a data folder: ids of rows, one a line, that are left out, such as those with a broken picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from trainables.data.reading.cells import plain_id
from trainables.data.reading.lines import read_lines
from trainables.data.reading.sparse import SparseRows
from trainables.data.reading.table import ImageFiles, Neighbours, Table

NAME = "exclude.txt"


def exclude_file(data_dir: str | None) -> Path | None:
    """The file, where there is one."""
    path = None if data_dir is None else Path(data_dir) / NAME
    return path if path is not None and path.is_file() else None


def without_excluded(table: Table, path: Path) -> Table:
    """The table without the rows that the file names; each becomes one of its problems.

    Raises:
        ValueError: an id that the table does not have, with its line.
    """
    numbers = {plain_id(id): row for row, id in enumerate(table.ids)} | {id: row for row, id in enumerate(table.ids)}
    keep = np.ones(len(table.ids), bool)
    problems = []
    for line, data in read_lines(path):
        try:
            id = data.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} (line {line}): not UTF-8 at byte {error.start + 1}") from None
        if not id or id.startswith("#"):
            continue
        id = id if id in numbers else plain_id(id)
        if id not in numbers:
            raise ValueError(f"{path} (line {line}): no row has the id '{id}'")
        keep[numbers[id]] = False
        problems.append(f"{path} (line {line}): row {id} is left out")
    rows = np.flatnonzero(keep)
    kept: list[int] = rows.tolist()
    targets = {
        name: replace(target, labels=_take(target.labels, rows), is_labelled=target.is_labelled[rows])
        for name, target in table.targets.items()
    }
    images = table.images
    if isinstance(images, ImageFiles):
        images = ImageFiles(images.root, [images.names[row] for row in kept])
    elif images is not None:
        images = _Some(images, rows)
    return replace(
        table, ids=[table.ids[row] for row in kept], split=table.split[rows], targets=targets,
        texts=None if table.texts is None else [table.texts[row] for row in kept], images=images,
        numeric=None if table.numeric is None else table.numeric[rows],
        categorical={name: [values[row] for row in kept] for name, values in table.categorical.items()},
        graphs={name: _neighbours(graph, rows) for name, graph in table.graphs.items()},
        problems=[*table.problems, *problems],
        left_out=[one._replace(before=int(np.searchsorted(rows, one.before))) for one in table.left_out],
    )  # fmt: skip


class _Some(Sequence[bytes]):
    """Some of the images, still read when they are asked for."""

    def __init__(self, images: Sequence[bytes], rows: np.ndarray) -> None:
        self._images, self._rows = images, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        rows = self._rows[index]
        return _Some(self._images, rows) if isinstance(index, slice) else self._images[int(rows)]


def was_excluded(problem: str) -> bool:
    """Whether a line of a table's problems was made here, for a row that its user wants left out."""
    return f"{NAME} (line " in problem and problem.endswith(" is left out")


def _take(labels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return labels.take_rows(rows) if isinstance(labels, SparseRows) else labels[rows]  # pyright: ignore


def _neighbours(graph: Neighbours, rows: np.ndarray) -> Neighbours:
    parts = [graph.nodes[graph.offsets[row] : graph.offsets[row + 1]] for row in rows]
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
    nodes = np.concatenate([graph.nodes[:0], *parts])
    return Neighbours(nodes=nodes, offsets=offsets, num_nodes=graph.num_nodes)
