"""MM-IMDb (Arevalo et al. 2017): plots and posters of films; genres, several a film.

Read from the raw folder (the longest of a film's plots is its text), from what MMBT's script makes of it, or
from ``multimodal_imdb.hdf5``. The two genre lists in use are two targets: the 23 of the paper, and all that MMBT
keeps (films tagged News left out, and held-out films with a genre that no training film has).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainables.data.reading.fields import BadRow, id_of, names_of, text_of
from trainables.data.reading.folder import data_folder, first_there, missing
from trainables.data.reading.hdf5 import Hdf5Images, columns_of, open_hdf5, strings
from trainables.data.reading.rows import Rows
from trainables.data.reading.table import SPLITS, Table, Target
from trainables.data.reading.textfiles import json_document, json_lines

SUMMARY = "plots and posters of 25,959 films; 23 genres (genres23) or all that MMBT keeps (genres_mmbt)"
IS_EMBEDDED = False
TARGETS = {"genres23": "multilabel", "genres_mmbt": "multilabel"}

_NAME = "mm_imdb"
_GENRES = (
    "Drama", "Comedy", "Romance", "Thriller", "Crime", "Action", "Adventure", "Horror", "Documentary", "Mystery",
    "Sci-Fi", "Fantasy", "Family", "Biography", "War", "History", "Music", "Animation", "Musical", "Western", "Sport",
    "Short", "Film-Noir",
)  # fmt: skip
_SPLITS = {"train": "train", "dev": "val", "test": "test"}
_MEAN = np.array([123.68, 116.779, 103.939])  # RGB; the HDF5 file has BGR less this
_LAYOUTS = (
    "split.json and dataset/{id}.json, {id}.jpeg (perhaps below mmimdb/; or labels/{id}.json, images/{id}.jpeg)",
    "train.jsonl, dev.jsonl, test.jsonl (MMBT) and the pictures that they name",
    "multimodal_imdb.hdf5, and vocab.json for its texts",
)


def sources(data_dir: str | None) -> list[Path]:
    """The annotation files: of the raw folder one a film.

    Raises:
        ValueError: no folder, or no known layout in it.
    """
    kind, path = _layout(data_folder(_NAME, data_dir))
    if kind == "jsonl":
        return [path / f"{name}.jsonl" for name in _SPLITS]
    if kind == "hdf5":
        return [file for file in (path, path.with_name("vocab.json")) if file.exists()]
    folder = _films(path)[0]
    return [path, *(file for _, id in _raw_ids(path) if "/" not in id and (file := folder / f"{id}.json").exists())]


def read(data_dir: str | None) -> Table:
    """All films that have a poster and a plot.

    Raises:
        ValueError: as for :func:`sources`, or a file that cannot be read at all.
    """
    root = data_folder(_NAME, data_dir)
    kind, path = _layout(root)
    rows = Rows(_NAME, root)
    if kind == "hdf5":
        return _read_hdf5(rows, path)
    (_read_raw if kind == "raw" else _read_jsonl)(rows, path)
    rows.check()
    genres = rows.sets("genres", rows.column("genres"))
    return rows.table({"genres23": _genres23(rows, genres), "genres_mmbt": _genres_mmbt(rows, genres)})


def _layout(root: Path) -> tuple[str, Path]:
    for kind, names in (
        ("raw", ("split.json", "mmimdb/split.json")),
        ("jsonl", ("train.jsonl",)),
        ("hdf5", ("multimodal_imdb.hdf5", "mmimdb/multimodal_imdb.hdf5")),
    ):
        path = first_there(root, names)
        if path is None:
            continue
        if kind == "jsonl":
            for name in _SPLITS:
                if not (root / f"{name}.jsonl").exists():
                    raise missing(_NAME, root, f"{name}.jsonl", _LAYOUTS)
            return kind, root
        return kind, path
    raise missing(_NAME, root, "split.json, train.jsonl or multimodal_imdb.hdf5", _LAYOUTS)


# --- the raw folder ---------------------------------------------------------------------------------
def _raw_ids(path: Path) -> list[tuple[str, str]]:
    """(split, id) of every film in split.json."""
    splits = json_document(path)
    for name in _SPLITS:
        if not isinstance(splits, dict) or not isinstance(splits.get(name), list):
            raise ValueError(f"{path}: no list '{name}' in it")
    return [(split, str(id)) for name, split in _SPLITS.items() for id in splits[name]]


def _films(path: Path) -> tuple[Path, Path]:
    """The folders of JSON files and of posters."""
    for films, posters in (("dataset", "dataset"), ("labels", "images")):
        if (path.parent / films).is_dir():
            return path.parent / films, path.parent / posters
    raise ValueError(f"dataset {_NAME}: {path.parent} has no folder dataset. Known layouts: {' | '.join(_LAYOUTS)}")


def _read_raw(rows: Rows, path: Path) -> None:
    films, posters = _films(path)
    for split, id in _raw_ids(path):
        file = films / f"{id}.json"
        with rows.sample(path, id=id, split=split):
            if "/" in id or not file.exists():
                raise BadRow(f"film {id} of {_split_name(split)} has no {id}.json")
            with rows.sample(file, id=id, split=split):
                try:
                    film = json_document(file)
                except ValueError as error:
                    raise BadRow(str(error).removeprefix(f"{file} ").removeprefix(f"{file}: ")) from None
                if not isinstance(film, dict):
                    raise BadRow("is no JSON object")
                image = (posters / f"{id}.jpeg").relative_to(rows.root).as_posix()
                rows.add(id=id, split=split, text=_plot(film), image=image, genres=names_of(film, "genres"))


def _split_name(split: str) -> str:
    return next(name for name, known in _SPLITS.items() if known == split)


def _plot(film: dict[str, Any]) -> str:
    """The longest plot, the first of several as long; the outline where there is none."""
    plots = film.get("plot", [])
    plots = [plot for plot in (plots if isinstance(plots, list) else [plots]) if isinstance(plot, str) and plot.strip()]
    if not plots and film.get("plot outline") is None:
        raise BadRow("no 'plot'")
    return max((text_of({"plot": plot}, "plot") for plot in plots), key=len) if plots else text_of(film, "plot outline")


# --- MMBT's lines -----------------------------------------------------------------------------------
def _read_jsonl(rows: Rows, root: Path) -> None:
    for name, split in _SPLITS.items():
        path = root / f"{name}.jsonl"
        for line, row in json_lines(path, rows.lost(split)):
            with rows.sample(path, line, split=split):
                key = "img" if "img" in row else "image"  # the script writes one, the loader reads the other
                rows.add(
                    id=rows.named(id_of(row)), split=split, text=text_of(row, "text"), image=text_of(row, key),
                    genres=names_of(row, "label"),
                )  # fmt: skip


# --- genres -----------------------------------------------------------------------------------------
def _genres23(rows: Rows, genres: Sequence[Collection[str] | None]) -> Target:
    """Films with none of the 23 are not labelled."""
    known = set(_GENRES)
    return rows.multilabel([names if known & {*(names or ())} else None for names in genres], _GENRES)


def _genres_mmbt(rows: Rows, genres: Sequence[Collection[str] | None]) -> Target:
    is_kept = ["News" not in (names or ()) for names in genres]
    in_train = {
        name
        for names, split, kept in zip(genres, rows.splits, is_kept, strict=True)
        if split == SPLITS[0] and kept
        for name in names or ()
    }
    return rows.multilabel(
        [names if kept and in_train >= {*(names or ())} else None for names, kept in zip(genres, is_kept, strict=True)],
        sorted(in_train),
    )


# --- HDF5 -------------------------------------------------------------------------------------------
def _read_hdf5(rows: Rows, path: Path) -> Table:
    with open_hdf5(path) as file:
        found = columns_of(file, ("images", "genres", "imdb_ids", "sequences"))
        names = _target_names(file, found["genres"])
        ids = strings(found["imdb_ids"], "ascii")
        split = _hdf5_split(file, len(ids))
        hot = found["genres"][:]
        words, note = _words(path.with_name("vocab.json"))
        if note:
            rows.note(path, None, note)
        for at, id in enumerate(ids):
            with rows.sample(path, None, id=id, split=split[at]):
                if not split[at]:
                    raise BadRow(f"film {id} (row {at}) is in no split")
                text = None if words is None else _sentence(found["sequences"][at], words, at)
                genres = [names[column] for column in np.flatnonzero(hot[at])]
                rows.add(id=id, split=split[at], text=text, row=at, genres=genres or None)
    rows.check()
    places = np.stack([np.zeros(len(rows), np.int64), np.array(rows.column("row"))], axis=1)
    return rows.table(
        {"genres23": rows.multilabel(rows.column("genres"), names)},
        images=Hdf5Images([path], "images", places, _to_rgb),
    )


def _target_names(file: Any, genres: Any) -> list[str]:
    try:
        names = json.loads(genres.attrs["target_names"])
        assert isinstance(names, list) and len(names) == genres.shape[1]
    except (KeyError, ValueError, IndexError, TypeError, AssertionError):
        raise ValueError(f"{file.filename}: 'genres' has no attribute target_names with a name a column") from None
    return [str(name) for name in names]


def _hdf5_split(file: Any, num_rows: int) -> list[str]:
    """The split of each row, '' where it has none, from Fuel's table of (split, source, start, stop)."""
    split = [""] * num_rows
    table = file.attrs.get("split")
    if table is None or table.dtype.names is None or not {"split", "source", "start", "stop"} <= {*table.dtype.names}:
        raise ValueError(f"{file.filename}: no attribute 'split' as Fuel writes it")
    for row in table:
        name = row["split"].decode() if isinstance(row["split"], bytes) else str(row["split"])
        source = row["source"].decode() if isinstance(row["source"], bytes) else str(row["source"])
        if source == "genres" and name in _SPLITS:
            for at in range(int(row["start"]), min(int(row["stop"]), num_rows)):
                split[at] = _SPLITS[name]
    return split


def _words(path: Path) -> tuple[list[str] | None, str | None]:
    """The vocabulary, or why there is none. The release has it pickled in metadata.npy, which is never opened."""
    if not path.exists():
        return None, "no texts: their words are pickled in metadata.npy, which is not read; see docs/datasets.md"
    document = json_document(path)
    entries: Iterable[tuple[Any, Any]] = document.items() if isinstance(document, dict) else enumerate(document)
    try:
        words = {int(index): word for index, word in entries}
        return [str(words[index]) for index in range(len(words))], None
    except (ValueError, TypeError, KeyError):
        raise ValueError(f"{path}: neither a list of words nor an object of numbers 0, 1, ... to words") from None


def _sentence(sequence: Any, words: list[str], row: int) -> str:
    numbers = np.asarray(sequence).reshape(-1)
    if len(numbers) and (numbers.min() < 0 or numbers.max() >= len(words)):
        raise BadRow(f"row {row}: word {numbers.max()} is not in vocab.json")
    return " ".join(words[number] for number in numbers.tolist())


def _to_rgb(pixels: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) of int (3, H, W) that is BGR less the mean and cut towards zero: right to one level."""
    shifted = pixels[::-1].transpose(1, 2, 0).astype(np.float64)
    whole = np.where(
        shifted > 0, np.ceil(shifted + _MEAN), np.where(shifted < 0, np.floor(shifted + _MEAN), _MEAN.round())
    )
    return whole.clip(0, 255).astype(np.uint8)
