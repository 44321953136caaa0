"""Regions of an object detector for the rows of a dataset: read once, checked, and memory-mapped as float16.

Which picture of a file is a row's is told by the row's picture, or its id: see ``_RULES``. Every row has one.
Letters: B rows, R regions, G features.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from trainables.data.cache.arrays import NpyWriter, Padded
from trainables.data.cache.features import Features
from trainables.data.cache.identity import dataset_key, files_digest
from trainables.data.cache.progress import tell
from trainables.data.cache.store import build_once, folder_of, meta
from trainables.data.reading.dataset import DatasetRef, load_table
from trainables.data.reading.exclude import NAME as EXCLUDE
from trainables.data.reading.regionfiles import KINDS, RegionFile, open_regions, read_regions, region_files
from trainables.data.reading.table import ImageFiles
from trainables.encoders.inputs import Input
from trainables.layers.regions import packed_regions

_KEY = "model.region_file"
_RULES: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("their pictures' names without the suffix", lambda name: str(PurePosixPath(name).with_suffix(""))),
    ("their pictures' names without folder and suffix", lambda name: PurePosixPath(name).stem),
    ("their pictures' names", lambda name: name),
    ("the numbers at the end of their pictures' names", lambda name: _last_number(PurePosixPath(name).stem)),
)
_OF_ID = "their ids"


def regions_key(dataset: DatasetRef, input: Input) -> dict[str, Any]:
    """What the regions of a dataset's rows depend on."""
    return {**dataset_key(dataset), "regions": regions_digest(input.encoder)}


def regions_digest(name: str) -> str:
    """Changes with the content of a file of regions.

    Raises:
        ValueError: it is not there.
    """
    path = Path(name).expanduser()
    with _region_errors():
        files = region_files(path)
        if not files:
            raise ValueError(f"{path}: has no regions, which are read from {KINDS}")
        return files_digest(files, f"what is in {path.name}")


def prepare_regions(dataset: DatasetRef, input: Input) -> Features:
    """Regions of every row, (N, R, G + 5) as :func:`trainables.layers.regions.packed_regions` lays them out, from the
    cache or read now; a picture once.

    Args:
        dataset: whose rows.
        input: its ``encoder`` is the file, ``num_tokens`` is R: a picture's first regions, or padding; ``width`` is G.

    Raises:
        ValueError: a file that cannot be read, rows that it has no regions of, or features of another width.
    """
    about = f"{dataset.name}: regions of {Path(input.encoder).name}"

    def build(folder: Path) -> dict[str, Any]:
        file, lengths = _opened(input.encoder), []
        ids, index = np.unique(np.array(region_ids(dataset, file)), return_inverse=True)
        with NpyWriter(folder / "values.npy", np.dtype(np.float16)) as out:
            for done, id in enumerate(ids.tolist(), start=1):
                with _region_errors():
                    found = read_regions(file, id)
                _check_width(found.features.shape[1], input, where=f"{input.encoder} {id}")
                values = packed_regions(found.features, found.boxes)
                if not np.isfinite(values).all():
                    raise ValueError(f"{_KEY}: {input.encoder} {id}: features that do not fit float16")
                out.write(values.ravel())
                lengths.append(len(values))
                tell(about, done, len(ids))
        np.save(folder / "offsets.npy", np.concatenate([[0], np.cumsum(lengths)]))
        np.save(folder / "index.npy", index)
        return {"about": about, "rows": len(ids), "width": input.width}

    folder = build_once("regions", regions_key(dataset, input), build)
    width = meta(folder)["width"]
    _check_width(width, input, where=input.encoder)
    values = np.load(folder / "values.npy", mmap_mode="r").reshape(-1, width + 5)
    assert input.num_tokens is not None
    padded = Padded(values, np.load(folder / "offsets.npy"), np.load(folder / "index.npy"), input.num_tokens)
    return Features(padded, width, num_parameters=0)


def are_prepared(dataset: DatasetRef, input: Input) -> bool:
    """Whether the cache has them."""
    return folder_of("regions", regions_key(dataset, input)).exists()


def region_ids(dataset: DatasetRef, file: RegionFile) -> list[str]:
    """What each row's picture is called in a file: by the first rule that finds all, else by the one that finds most.

    Raises:
        ValueError: rows that are not in the file: how many, and the first; or one id of several pictures.
    """
    table = load_table(dataset)
    names = table.images.names if isinstance(table.images, ImageFiles) else None
    tried = [(rule, [make(name) for name in names]) for rule, make in _RULES] if names is not None else []
    tried.append((_OF_ID, table.ids))
    missing = {rule: _missing(ids, file.ids) for rule, ids in tried}
    rule, ids = min(tried, key=lambda one: len(missing[one[0]]))  # the first of equals
    if missing[rule]:
        rows = missing[rule]
        first = ", ".join(ids[row] for row in rows[:3])
        has = ", ".join(sorted(file.ids)[:3])
        raise ValueError(
            f"{_KEY}: no regions of {len(rows):,} of {len(ids):,} rows of {dataset.name}, looked up by {rule}: {first}"
            f"{', ...' if len(rows) > 3 else ''}; the file has {len(file.ids):,}: {has}, ... Where some are meant to "
            f"be missing: the rows' ids, one a line, in {EXCLUDE} of the data folder"
        )
    if names is not None and rule != _OF_ID and len(set(ids)) < len(set(names)):
        raise ValueError(f"{_KEY}: {rule} are the same for several pictures of {dataset.name}")
    return ids


def region_finder(input: Input) -> Callable[[str | None, str], np.ndarray]:
    """A function from a picture's path, if it has one, and a row's id to the regions (R, G + 5), padded with zeros.

    What it is given is looked up by the path, without and with its suffix, by ever fewer of its folders, by the number
    at its end, and by the id. It raises ValueError where the file has nothing under any of these.

    Raises:
        ValueError: the file cannot be read, or is not there.
    """
    assert input.num_tokens is not None
    if not Path(input.encoder).expanduser().exists():
        raise ValueError(
            f"the model reads regions of an object detector, {input.num_tokens} a picture of {input.width} numbers "
            f"each, and {input.encoder} is not there: --regions FILE says where those of these rows are"
        )
    file = _opened(input.encoder)
    length = input.num_tokens

    def find(path: str | None, id: str) -> np.ndarray:
        name = next((name for name in [*_spellings(path), id] if name in file.ids), None)
        if name is None:
            raise ValueError(f"{input.encoder} has no regions of {path or id}")
        found = read_regions(file, name)
        _check_width(found.features.shape[1], input, where=f"{input.encoder} {name}")
        packed, out = packed_regions(found.features, found.boxes), np.zeros((length, input.width + 5), np.float16)
        out[: len(packed)] = packed[:length]
        return out

    return find


def _spellings(path: str | None) -> Iterator[str]:
    if path is None:
        return
    pure = PurePosixPath(path)
    for parts in (pure.with_suffix("").parts, pure.parts):
        yield from ("/".join(parts[at:]).removeprefix("//") for at in range(len(parts)))
    yield _last_number(pure.stem)


def _missing(ids: list[str], there: Collection[str]) -> list[int]:
    return [row for row, id in enumerate(ids) if id not in there]


def _last_number(stem: str) -> str:
    """'COCO_val2014_000000262148': '262148'."""
    found = re.search(r"(\d+)$", stem)
    return "" if found is None else str(int(found[1]))


def _check_width(width: int, input: Input, *, where: str) -> None:
    if width != input.width:
        raise ValueError(f"{_KEY}: {where}: features of {width} numbers, and model.region_width is {input.width}")


@contextmanager
def _region_errors() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{_KEY}: {error}") from None


def _opened(name: str) -> RegionFile:
    """Kept for the process, until the file changes."""
    path = Path(name).expanduser()
    with _region_errors():
        region_files(path)
        stat = path.stat()
        return _open(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=2)
def _open(path: Path, size: int, time: int) -> RegionFile:
    return open_regions(path)
