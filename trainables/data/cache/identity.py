"""What identifies a dataset: the bytes of its files, wherever they lie and whenever they were written.

So a copy on another disk is the same dataset, for caches and for studies. Loose pictures and large files are read once
and their digest is remembered in the cache, as long as their names, sizes and times stay.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

from trainables.data.cache.progress import tell
from trainables.data.cache.store import build_once, meta
from trainables.data.formats import dataset_module
from trainables.data.reading.dataset import DatasetRef, load_table
from trainables.data.reading.exclude import exclude_file
from trainables.data.reading.table import ImageFiles
from trainables.files import checksum, file_hash

IMAGES, REGIONS = "images", "regions"
_REMEMBERED_BYTES = 2**28  # a file that is larger is not read again by every process
_READERS = 8  # threads: reading waits for the disk


def text_key(dataset: DatasetRef) -> dict[str, Any]:
    """:func:`dataset_key`, and what stands in front of the texts."""
    return dataset_key(dataset) | ({} if dataset.fields is None else {"fields": dataset.fields})


@lru_cache(maxsize=4)
def dataset_key(dataset: DatasetRef) -> dict[str, Any]:
    """The dataset's name and what is in its files: 'files' by their path below its folder, 'images' of loose pictures,
    where they are read.

    Kept for the process, as the table is.
    """
    if dataset.fields is not None:
        return dataset_key(dataset.plain)
    paths: list[Path] = dataset_module(dataset.name).sources(dataset.data_dir)
    excluded = exclude_file(dataset.data_dir)
    paths += [] if excluded is None else [excluded]
    key: dict[str, Any] = {"dataset": dataset.name, "files": {_name(path, dataset): _digest(path) for path in paths}}
    images = load_table(dataset).images
    if isinstance(images, ImageFiles) and dataset.needs_pictures:
        key[IMAGES] = _remembered(images, f"{dataset.name}: what is in its pictures")
    return key


def dataset_fingerprint(dataset: DatasetRef) -> str:
    """Changes with the files behind a dataset: 20 hexadecimal digits."""
    return hashlib.sha256(json.dumps(dataset_key(dataset)).encode()).hexdigest()[:20]


def files_digest(paths: Sequence[Path], about: str) -> str:
    """Changes with the content of these files, which are below one folder; large ones are read once."""
    if len(paths) == 1:
        return _digest(paths[0])
    root = Path(os.path.commonpath([path.parent for path in paths]))
    return _remembered(ImageFiles(root, [path.relative_to(root).as_posix() for path in paths]), about)


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The files, by two keys of datasets, that are not the same: those that one has alone, too."""
    files = one["files"].keys() | other["files"].keys()
    found = sorted(name for name in files if one["files"].get(name) != other["files"].get(name))
    mine, theirs = one.get(REGIONS, {}), other.get(REGIONS, {})
    found += sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))
    return found + (["pictures"] if one.get(IMAGES) != other.get(IMAGES) else [])


def _name(path: Path, dataset: DatasetRef) -> str:
    root = dataset.data_dir
    return str(path.relative_to(root)) if root is not None and path.is_relative_to(root) else path.name


def _digest(path: Path) -> str:
    if path.stat().st_size <= _REMEMBERED_BYTES:
        return file_hash(path)
    return _remembered(ImageFiles(path.parent, [path.name]), f"what is in {path.name}")


def _remembered(files: ImageFiles, about: str) -> str:
    """The digest of files, from the cache or read now."""

    def build(folder: Path) -> dict[str, Any]:
        names = sorted(set(files.names))
        return {"about": about, "rows": len(names), "digest": _contents(files.root, names, about)}

    return meta(build_once("contents", {"root": str(files.root.resolve()), "stamp": files.stamp}, build))["digest"]


def _contents(root: Path, names: Sequence[str], about: str) -> str:
    digest = hashlib.sha256()
    with ThreadPoolExecutor(_READERS) as readers:
        for done, found in enumerate(readers.map(lambda name: f"{name}\0{checksum(root / name)}\n", names), start=1):
            digest.update(found.encode())
            tell(about, done, len(names))
    return digest.hexdigest()
