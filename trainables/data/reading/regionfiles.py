"""Regions that an object detector found in pictures: features and boxes, in the files that MMF, LXMERT and ViLBERT's
authors hand around (docs/datasets.md#regions).

    folder of .npy   MMF: ID.npy (R, G), and ID_info.npy, a pickled dict with bbox, image_width, image_height
    LMDB             MMF, ViLBERT: a pickled dict an id; arrays, or base64 of float32
    .tsv             LXMERT, bottom-up attention: 10 or 6 columns without a header, base64 of float32
    .h5, .hdf5       a group an id, with features, boxes, img_w, img_h

Nothing is unpickled but plain values and arrays (:mod:`plainpickle`). Letters: R regions, G features.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from trainables.data.reading.hdf5 import open_hdf5
from trainables.data.reading.plainpickle import read_npy, read_plain_pickle

KINDS = "a folder of .npy files, an LMDB (a folder with data.mdb, or .lmdb), .tsv, .h5 or .hdf5"
_TSV = {
    10: ("id", "height", "width", *4 * ("",), "num_boxes", "boxes", "features"),  # LXMERT
    6: ("id", "width", "height", "num_boxes", "boxes", "features"),  # bottom-up attention
}
_NAMES = {
    "features": ("features",),
    "boxes": ("boxes", "bbox"),
    "width": ("image_width", "img_w", "image_w", "width"),
    "height": ("image_height", "img_h", "image_h", "height"),
    "num_boxes": ("num_boxes",),
}
_INFO = "_info.npy"
_LONGEST_LINE = 2**28
_OUTSIDE = 0.01  # of a side, that a box may lie outside its picture: it is cut there


class Regions(NamedTuple):
    """What was found in one picture, in the order of the file: detectors write the surest first.

    Attributes:
        features: (R, G) float32.
        boxes: (R, 4) float32, [x1, y1, x2, y2] in shares of the picture's width and height.
    """

    features: np.ndarray
    boxes: np.ndarray


class RegionFile(Protocol):
    """A file of regions that is open."""

    @property
    def ids(self) -> Collection[str]:
        """Of the pictures that it has."""
        ...

    def values(self, id: str) -> tuple[Mapping[str, Any], str]:
        """What it has of a picture, under the names of ``_NAMES``; and the place, for errors."""
        ...


def region_files(path: Path) -> list[Path]:
    """What the content of a file or folder of regions is in.

    Raises:
        ValueError: it is not there.
    """
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder")
    if not path.is_dir():
        return [path]
    lmdb = path / "data.mdb"
    return [lmdb] if lmdb.is_file() else sorted(file for file in path.rglob("*.npy") if file.is_file())


def open_regions(path: Path) -> RegionFile:
    """A file or folder of regions, its ids read.

    Raises:
        ValueError: it is not there, of no known kind, damaged, empty, or needs a package that is not installed.
    """
    files, suffix = region_files(path), path.suffix.lower()
    if path.is_dir():
        found = _Lmdb(path, files[0]) if [file.name for file in files] == ["data.mdb"] else _NpyFolder(path, files)
    elif suffix in (".lmdb", ".mdb"):
        found = _Lmdb(path, path)
    elif suffix == ".tsv":
        found = _Tsv(path)
    elif suffix in (".h5", ".hdf5"):
        found = _Hdf5(path)
    else:
        raise ValueError(f"{path}: regions are read from {KINDS}")
    if not found.ids:
        raise ValueError(f"{path}: has no regions")
    return found


def read_regions(file: RegionFile, id: str) -> Regions:
    """The regions of a picture that the file has.

    Raises:
        ValueError: what it says of them does not fit together.
    """
    values, where = file.values(id)
    given = {name: _first(values, names, where) for name, names in _NAMES.items()}
    width, height = (_side(given[name], name, where) for name in ("width", "height"))
    features, boxes = _array(given["features"]), _array(given["boxes"])
    if features.ndim == 1 and isinstance(given["features"], str | bytes):  # base64 has no shape
        boxes = boxes.reshape(-1, 4) if boxes.size % 4 == 0 else boxes
        num = len(boxes)
        if given["num_boxes"] is not None and int(given["num_boxes"]) != num:
            raise ValueError(f"{where}: num_boxes is {given['num_boxes']}, and there are {num}; cut short?")
        features = features.reshape(num, -1) if num and features.size % num == 0 else features
    if features.ndim != 2 or boxes.shape != (len(features), 4) or features.shape[1] == 0:
        raise ValueError(
            f"{where}: features are (regions, width) and boxes (regions, 4), here {features.shape} and {boxes.shape}"
        )
    if not (np.isfinite(features).all() and np.isfinite(boxes).all()):
        raise ValueError(f"{where}: features or boxes that are infinite or no number")
    return Regions(features, _in_shares(boxes, width, height, where))


def _first(values: Mapping[str, Any], names: tuple[str, ...], where: str) -> Any:
    found = next((values[name] for name in names if values.get(name) is not None), None)
    if found is None and names != ("num_boxes",):
        raise ValueError(f"{where}: no {' nor '.join(names[:2])}; it has {', '.join(map(str, values)) or 'nothing'}")
    return found


def _side(value: Any, name: str, where: str) -> float:
    try:
        side = float(np.asarray(value).item())
    except (TypeError, ValueError):
        side = 0.0
    if not 0 < side < 1e6:
        raise ValueError(f"{where}: the picture's {name} is no number of pixels")
    return side


def _array(value: Any) -> np.ndarray:
    """Of numbers; empty where there are none."""
    if isinstance(value, str | bytes):
        try:
            return np.frombuffer(base64.b64decode(value, validate=True), "<f4")
        except (binascii.Error, ValueError):
            return np.zeros(0, np.float32)
    try:
        return np.asarray(value, np.float32)
    except (TypeError, ValueError):
        return np.zeros(0, np.float32)


def _in_shares(boxes: np.ndarray, width: float, height: float, where: str) -> np.ndarray:
    if len(boxes) and boxes.max() <= 1 < min(width, height):
        raise ValueError(f"{where}: boxes are in pixels, and none here goes beyond the first")
    shares = boxes / np.array([width, height, width, height], np.float32)
    outside = (shares < -_OUTSIDE) | (shares > 1 + _OUTSIDE)
    if outside.any():
        row = int(np.flatnonzero(outside.any(axis=1))[0])
        raise ValueError(
            f"{where}: box {row} is {boxes[row].tolist()}, outside a picture of {width:g} x {height:g} pixels"
        )
    if (shares[:, :2] > shares[:, 2:]).any():
        row = int(np.flatnonzero((shares[:, :2] > shares[:, 2:]).any(axis=1))[0])
        raise ValueError(f"{where}: box {row} is {boxes[row].tolist()}, which is no [x1, y1, x2, y2]")
    return shares.clip(0, 1)


# --- the kinds of files --------------------------------------------------------------------------------
class _NpyFolder:
    def __init__(self, path: Path, files: list[Path]) -> None:
        self.path = path
        names = (file.relative_to(path).as_posix() for file in files)
        self.ids = dict.fromkeys(name[: -len(".npy")] for name in names if not name.endswith(_INFO)).keys()

    def values(self, id: str) -> tuple[Mapping[str, Any], str]:
        path, info = self.path / f"{id}.npy", self.path / f"{id}{_INFO}"
        if not info.is_file():
            raise ValueError(f"{path}: no {info.name} beside it, with the boxes")
        found = read_npy(info)
        if not isinstance(found, dict):
            raise ValueError(f"{info}: no dict with bbox, image_width and image_height")
        return {**found, "features": read_npy(path)}, str(path)


class _Lmdb:
    def __init__(self, path: Path, file: Path) -> None:
        try:
            import lmdb
        except ImportError:
            raise ValueError(f"{path}: reading LMDB needs lmdb: pip install 'mmtune[regions]'") from None
        self.path = path
        try:
            self._check_size(file)
            self._open = lmdb.open(
                str(path), subdir=path.is_dir(), readonly=True, lock=False, readahead=False, create=False, max_dbs=0
            )
            with self._open.begin() as found:
                keys = [bytes(key) for key in found.cursor().iternext(values=False)]
        except (lmdb.Error, OSError, struct.error) as error:
            raise ValueError(f"{path}: no LMDB, or not all of one ({error})") from None
        self._keys = {key.decode("utf-8", "replace"): key for key in keys if key != b"keys"}
        self.ids = self._keys.keys()

    def values(self, id: str) -> tuple[Mapping[str, Any], str]:
        where = f"{self.path} {id}"
        with self._open.begin(buffers=True) as found:
            values = read_plain_pickle(found.get(self._keys[id]) or b"", where=where)
        if not isinstance(values, dict):
            raise ValueError(f"{where}: no dict with features and boxes")
        return values, where

    @staticmethod
    def _check_size(path: Path) -> None:
        """The pages are mapped into memory: a file that ends before its last one would kill who reads it."""
        with path.open("rb") as file:
            head = file.read(4096 + 168)
        magic, page_size = struct.unpack_from("<I", head, 16)[0], struct.unpack_from("<I", head, 40)[0]
        if magic != 0xBEEFC0DE or not 512 <= page_size <= 2**16:
            raise OSError("it does not begin as one")
        with path.open("rb") as file:
            file.seek(page_size)
            second = file.read(168)
        last = max(struct.unpack_from("<Q", meta, 136)[0] for meta in (head, second) if len(meta) >= 152)
        if path.stat().st_size < (last + 1) * page_size:
            raise OSError("the file is cut short")


class _Tsv:
    def __init__(self, path: Path) -> None:
        self.path, self._at = path, {}
        self._names: tuple[str, ...] = ()
        with path.open("rb") as file:
            at = 0
            while line := file.readline(_LONGEST_LINE):
                self._note(line, at)
                at += len(line)
        self.ids = self._at.keys()

    def _note(self, line: bytes, at: int) -> None:
        """Where the line of an id is."""
        where, columns = f"{self.path} line {len(self._at) + 1}", line.count(b"\t") + 1
        names = _TSV.get(columns)
        if names is None or (self._names and names != self._names):
            raise ValueError(f"{where}: {columns} columns; LXMERT's files have 10, bottom-up attention's 6; cut short?")
        id = line[: line.index(b"\t")].decode("utf-8", "replace")
        if id in self._at:
            raise ValueError(f"{where}: {id} was there before")
        self._names, self._at[id] = names, (at, len(line))

    def values(self, id: str) -> tuple[Mapping[str, Any], str]:
        start, length = self._at[id]
        with self.path.open("rb") as file:
            file.seek(start)
            cells = file.read(length).rstrip(b"\r\n").split(b"\t")
        found = dict(zip(self._names, cells, strict=True))
        numbers = {name: _number(found[name]) for name in ("width", "height", "num_boxes")}
        return {**found, **numbers}, f"{self.path} {id}"


def _number(cell: bytes) -> int:
    return int(cell) if cell.isdigit() and len(cell) < 10 else 0


class _Hdf5:
    def __init__(self, path: Path) -> None:
        self.path, self._open = path, open_hdf5(path)
        self.ids = self._open.keys()

    def values(self, id: str) -> tuple[Mapping[str, Any], str]:
        where = f"{self.path} {id}"
        try:
            group = self._open[id] if self._is_own(self._open, id) else None
            if group is None or not hasattr(group, "keys"):
                raise ValueError(f"{where}: no group with features, boxes, img_w and img_h")
            named = {name: group[name] for names in _NAMES.values() for name in names if self._has(group, name)}
            return dict(group.attrs) | {name: dataset[()] for name, dataset in named.items()}, where
        except (OSError, KeyError, RuntimeError) as error:
            raise ValueError(f"{where}: cannot be read ({next(iter(str(error).splitlines()), '')})") from None

    @staticmethod
    def _is_own(group: Any, name: str) -> bool:
        """Whether it is there, in this file: a link may lead to any other."""
        import h5py

        return isinstance(group.get(name, getlink=True), h5py.HardLink)

    def _has(self, group: Any, name: str) -> bool:
        """Whether it is a dataset whose content is in this file, too."""
        import h5py

        found = group[name] if self._is_own(group, name) else None
        return isinstance(found, h5py.Dataset) and not found.is_virtual and not found.external
