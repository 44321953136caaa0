"""HDF5 files through h5py: numbers and byte strings only, nothing pickled."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from PIL import Image


def open_hdf5(path: Path) -> Any:
    """An h5py.File to read from.

    Raises:
        ValueError: h5py is not installed, or the file is not HDF5 or not all of it.
    """
    try:
        import h5py
    except ImportError:
        raise ValueError(f"{path}: reading HDF5 needs h5py: pip install 'mmtune[hdf5]'") from None
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path}: not an HDF5 file, or not all of it ({error})") from None


def columns_of(file: Any, names: Iterable[str]) -> dict[str, Any]:
    """The datasets of a file by name, all of the same length.

    Raises:
        ValueError: one is missing, is no dataset, or has another length.
    """
    path, found = file.filename, {}
    for name in names:
        if name not in file or not hasattr(file[name], "shape") or file[name].ndim == 0:
            raise ValueError(f"{path}: no dataset '{name}'. Known: {', '.join(file)}")
        found[name] = file[name]
    lengths = {name: len(values) for name, values in found.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{path}: the datasets differ in length: {lengths}")
    return found


def strings(dataset: Any, encoding: str) -> list[str]:
    """A dataset of byte strings, (N,) or (N, 1), as texts."""
    values = np.asarray(dataset[:]).reshape(len(dataset), -1)[:, 0]
    if values.dtype.kind not in "SO":
        raise ValueError(f"{dataset.file.filename}: dataset '{dataset.name}' has {values.dtype}, not strings")
    return [value.decode(encoding, "replace") if isinstance(value, bytes) else str(value) for value in values.tolist()]


class Hdf5Images(Sequence[bytes]):
    """Pictures in HDF5 files as PNG, encoded when asked for.

    Args:
        paths: the files.
        name: the dataset with the pictures in each.
        rows: for each picture its file and row there.
        to_rgb: makes uint8 (H, W, 3) of a row; a function of a module, so that it can be sent to a process.
    """

    def __init__(
        self, paths: Sequence[Path], name: str, rows: np.ndarray, to_rgb: Callable[[np.ndarray], np.ndarray]
    ) -> None:
        self.paths, self.name, self.rows, self.to_rgb = paths, name, rows, to_rgb
        self._open: tuple[int, list[Any]] = (-1, [])  # process and its datasets: a fork must not share a handle

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> Hdf5Images: ...
    def __getitem__(self, index: int | slice) -> bytes | Hdf5Images:
        if isinstance(index, slice):
            return Hdf5Images(self.paths, self.name, self.rows[index], self.to_rgb)
        if self._open[0] != os.getpid():
            self._open = (os.getpid(), [open_hdf5(path)[self.name] for path in self.paths])
        at, row = self.rows[index]
        file = io.BytesIO()
        Image.fromarray(self.to_rgb(self._open[1][at][row])).save(file, "PNG", compress_level=1)
        return file.getvalue()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": (-1, [])}
