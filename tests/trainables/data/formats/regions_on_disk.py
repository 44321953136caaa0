"""Regions of a detector in the files in which they are handed around, written as their authors' tools write them."""

from __future__ import annotations

import base64
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import lmdb
import numpy as np


class Found(NamedTuple):
    """Of one picture: (R, G) float32, (R, 4) float32 in pixels, and the picture's size."""

    features: np.ndarray
    boxes: np.ndarray
    width: int
    height: int


KINDS = ("npy", "lmdb", "tsv", "h5")


def some(ids, *, num: int = 3, width: int = 6, seed: int = 0) -> dict[str, Found]:
    """Regions for pictures of 40 x 20 pixels, the later ones fewer."""
    rng, made = np.random.default_rng(seed), {}
    for at, id in enumerate(ids):
        count = max(1, num - at % 3)
        corners = rng.random((count, 2, 2)).astype(np.float32)
        low, high = corners.min(axis=1), corners.max(axis=1)
        boxes = np.concatenate([low, high], axis=1) * np.float32([40, 20, 40, 20])
        made[id] = Found(rng.standard_normal((count, width)).astype(np.float32), boxes, 40, 20)
    return made


def write(path: Path, kind: str, found: Mapping[str, Found]) -> Path:
    """Writes ``path`` with the suffix of its kind, and returns it."""
    path = path if kind == "npy" else path.with_suffix(f".{kind}")
    {"npy": _npy, "lmdb": _lmdb, "tsv": _tsv, "h5": _h5}[kind](path, found)
    return path


def info(one: Found) -> dict[str, Any]:
    """MMF's dict beside the features."""
    num = len(one.boxes)
    return {
        "bbox": one.boxes, "num_boxes": num, "objects": np.arange(num), "cls_prob": np.ones((num, 2), np.float32),
        "image_width": one.width, "image_height": one.height,
    }  # fmt: skip


def _npy(path: Path, found: Mapping[str, Found]) -> None:
    for id, one in found.items():
        (path / id).parent.mkdir(parents=True, exist_ok=True)
        np.save(path / f"{id}.npy", one.features)
        np.save(path / f"{id}_info.npy", info(one), allow_pickle=True)  # pyright: ignore[reportArgumentType]


def _lmdb(path: Path, found: Mapping[str, Found]) -> None:
    with lmdb.open(str(path), map_size=2**26) as env, env.begin(write=True) as into:
        for id, one in found.items():
            item = {"feature_path": id, "features": one.features, **info(one)}
            into.put(id.encode(), pickle.dumps(item))
        into.put(b"keys", pickle.dumps([id.encode() for id in found]))


def _tsv(path: Path, found: Mapping[str, Found]) -> None:
    with path.open("wb") as file:
        for id, one in found.items():
            num = len(one.features)
            arrays = [np.zeros(num, np.int64), np.ones(num, np.float32), np.zeros(num, np.int64)]
            arrays += [np.ones(num, np.float32), one.boxes, one.features]
            cells = [base64.b64encode(array.tobytes()) for array in arrays]
            sizes = [str(size).encode() for size in (one.height, one.width)]
            file.write(b"\t".join([id.encode(), *sizes, *cells[:4], str(num).encode(), *cells[4:]]) + b"\n")


def _h5(path: Path, found: Mapping[str, Found]) -> None:
    with h5py.File(path, "w") as file:
        for id, one in found.items():
            group = file.create_group(id)
            for name, value in zip(("features", "boxes", "img_w", "img_h"), one, strict=True):
                group[name] = value
