"""Parquet files in batches, and pictures that stay in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.parquet

_BATCH, _PICTURES = 8192, 256  # rows at a time, and where each has a picture


def open_parquet(path: Path) -> pyarrow.parquet.ParquetFile:
    """The file, its footer read.

    Raises:
        ValueError: it is not Parquet, or not all of it.
    """
    try:
        return pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{path}: not a Parquet file, or not all of it ({_first_line(error)})") from None


def parquet_rows(
    path: Path, columns: Sequence[str], pictures: str | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Row numbers from 1 and rows with ``columns`` only; few rows are in memory at a time.

    Args:
        pictures: a column of which only is said, as a bool, whether there are bytes.

    Raises:
        ValueError: not all of the file can be read.
    """
    row, names = 0, [*columns, *([pictures] if pictures else [])]
    try:
        with open_parquet(path) as file:
            for batch in file.iter_batches(batch_size=_BATCH if pictures is None else _PICTURES, columns=names):
                values = [batch.column(name).to_pylist() for name in columns]
                if pictures is not None:
                    values.append(_has_bytes(batch.column(pictures)))
                for fields in zip(*values, strict=True):
                    row += 1
                    yield row, dict(zip(names, fields, strict=True))
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} after row {row}: cannot be read ({_first_line(error)})") from None


def parquet_cells(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The same with bytes as they are; fewer rows at a time where a column has them.

    Raises:
        ValueError: not all of the file can be read.
    """
    row = 0
    try:
        with open_parquet(path) as file:
            schema = file.schema_arrow
            has_pictures = any(holds_pictures(schema.field(name).type) for name in columns)
            for batch in file.iter_batches(batch_size=_PICTURES if has_pictures else _BATCH, columns=[*columns]):
                for fields in batch.to_pylist():
                    row += 1
                    yield row, fields
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} after row {row}: cannot be read ({_first_line(error)})") from None


def holds_pictures(kind: pyarrow.DataType) -> bool:
    """Whether a column's type is bytes, or a struct with a field ``bytes`` (as Hugging Face datasets write)."""
    if pyarrow.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and holds_pictures(kind.field("bytes").type)
    return pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind)


def _has_bytes(column: Any) -> list[bool]:
    if pyarrow.types.is_struct(column.type):
        column = column.flatten()[column.type.get_field_index("bytes")]  # nulls of the struct included
    lengths = pyarrow.compute.call_function("binary_length", [column])
    return [bool(length) for length in lengths.to_pylist()]


def _first_line(error: BaseException) -> str:
    return str(error).split("\n")[0]


class ParquetImages(Sequence[bytes]):
    """Encoded pictures in a column of Parquet files, one row group in memory at a time; threads may share it.

    Args:
        paths: the files.
        column: bytes, or a struct with a field ``bytes``.
        rows: (N, 2), for each picture its file and row there, both from 0.
    """

    def __init__(self, paths: Sequence[Path], column: str, rows: np.ndarray) -> None:
        self.paths, self.column, self.rows = paths, column, rows
        self._starts: list[np.ndarray] | None = None  # of each file's row groups
        self._held: _Held | None = None  # one object, so that a thread never meets a group with another's pictures

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> ParquetImages: ...
    def __getitem__(self, index: int | slice) -> bytes | ParquetImages:
        if isinstance(index, slice):
            return ParquetImages(self.paths, self.column, self.rows[index])
        if self._starts is None:
            self._starts = [_group_starts(path) for path in self.paths]
        at, row = (int(value) for value in self.rows[index])
        group = int(np.searchsorted(self._starts[at], row, side="right")) - 1
        held = self._held
        if held is None or held.place != (at, group):
            held = self._held = _Held((at, group), read_group(self.paths[at], group, self.column))
        value = held.pictures[row - int(self._starts[at][group])].as_py()
        return value["bytes"] if isinstance(value, dict) else value

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_held": None}


@dataclass(frozen=True)
class _Held:
    place: tuple[int, int]  # file and row group
    pictures: pyarrow.ChunkedArray


def read_group(path: Path, group: int, column: str) -> pyarrow.ChunkedArray:
    """One column of one row group.

    Raises:
        ValueError: it is not Parquet, or not all of it.
    """
    with open_parquet(path) as file:
        return file.read_row_group(group, columns=[column]).column(column)


def _group_starts(path: Path) -> np.ndarray:
    with open_parquet(path) as file:
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    return np.concatenate([[0], np.cumsum(sizes)])[: max(1, len(sizes))]
