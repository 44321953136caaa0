"""Arrays on disk: rows of different lengths, rows that share their entries, and files that grow as they are written."""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Ragged:
    """Rows of different lengths: row i is ``values[offsets[i]:offsets[i + 1]]``."""

    values: np.ndarray
    offsets: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    def row(self, index: int) -> np.ndarray:
        return self.values[self.offsets[index] : self.offsets[index + 1]]


@dataclass(frozen=True)
class Shared:
    """Rows of which several are the same (questions on one picture): row i is ``values[index[i]]``."""

    values: np.ndarray
    index: np.ndarray

    def __getitem__(self, rows: Any) -> np.ndarray:
        return self.values[self.index[rows]]

    def __len__(self) -> int:
        return len(self.index)

    @property
    def shape(self) -> tuple[int, ...]:
        """As if no row were shared."""
        return (len(self.index), *self.values.shape[1:])


@dataclass(frozen=True)
class Padded:
    """Rows cut, or padded with zeros, to one length; several may be the same: row i is entry e = ``index[i]``, of which
    ``values[offsets[e]:offsets[e + 1]]`` is all there is."""

    values: np.ndarray
    offsets: np.ndarray
    index: np.ndarray
    length: int

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        out = np.zeros((len(rows), self.length, *self.values.shape[1:]), self.values.dtype)
        for at, entry in enumerate(self.index[rows].tolist()):
            start = self.offsets[entry]
            num = min(self.length, int(self.offsets[entry + 1] - start))
            out[at, :num] = self.values[start : start + num]
        return out

    def __len__(self) -> int:
        return len(self.index)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of all rows."""
        return (len(self.index), self.length, *self.values.shape[1:])


def open_shared(folder: Path, name: str) -> np.ndarray | Shared:
    """A memory-mapped array of the cache, and beside it perhaps the rows that share its entries."""
    values = np.load(folder / f"{name}.npy", mmap_mode="r")
    index = folder / "index.npy"
    return Shared(values, np.load(index)) if index.exists() else values


def new_array(path: Path, *, dtype: type[np.generic], shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """A memory-mapped .npy file, zeros, with its room on the disk: a full one would kill who writes to a map.

    Raises:
        OSError: there is not that much room.
    """
    out = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    with path.open("rb+") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return out


class NpyWriter:
    """A one-dimensional .npy file that grows as it is written."""

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        self.path, self.dtype, self.length = path, dtype, 0

    def __enter__(self) -> NpyWriter:
        self.file = self.path.open("wb")
        self._header()
        return self

    def write(self, values: np.ndarray) -> None:
        """Appends them."""
        self.file.write(values.astype(self.dtype).tobytes())
        self.length += len(values)

    def __exit__(self, *error: object) -> None:
        self.file.seek(0)
        self._header()
        self.file.close()

    def _header(self) -> None:
        """numpy leaves room for the length to grow: written again, it takes the same bytes."""
        header = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.length,)}
        np.lib.format.write_array_header_1_0(self.file, header)


def forget_pages(mapped: np.ndarray) -> None:
    """Writes a memory map to its file and takes its pages out of this process, which would grow with the file."""
    assert isinstance(mapped, np.memmap)
    mapped.flush()
    mapped._mmap.madvise(mmap.MADV_DONTNEED)  # pyright: ignore[reportAttributeAccessIssue]
