"""Moviescope (Cascante-Bonilla et al. 2019): synopses and posters of films; 13 genres, several a film.

Read from the lines of the MulT and MMBT code and a folder of posters named by id. The features that come with it
(trailers, sound, posters) are pickled and never read. Without a folder of posters the table has texts alone.
"""

from __future__ import annotations

from pathlib import Path

from trainables.data.reading.fields import BadRow, id_of, names_of, text_of
from trainables.data.reading.folder import data_folder, first_there, missing
from trainables.data.reading.rows import Rows
from trainables.data.reading.table import Table
from trainables.data.reading.textfiles import json_lines

SUMMARY = "synopses and posters of films; 13 genres"
IS_EMBEDDED = False
TARGETS = {"genres": "multilabel"}

_NAME = "moviescope"
_SPLITS = {"train": "train", "dev": "val", "test": "test"}
_POSTERS = ("Raw_Poster", "posters", "Posters", "images")
_LAYOUTS = ("train.jsonl, dev.jsonl, test.jsonl and Raw_Poster/ID.jpg (or posters/, images/)",)


def sources(data_dir: str | None) -> list[Path]:
    """The three annotation files.

    Raises:
        ValueError: no folder, or one of them is missing.
    """
    root = data_folder(_NAME, data_dir)
    for name in _SPLITS:
        if not (root / f"{name}.jsonl").exists():
            raise missing(_NAME, root, f"{name}.jsonl", _LAYOUTS)
    return [root / f"{name}.jsonl" for name in _SPLITS]


def read(data_dir: str | None) -> Table:
    """All films; where there is a folder of posters, those that have one.

    Raises:
        ValueError: as for :func:`sources`, or a file that is no JSON lines.
    """
    paths, root = sources(data_dir), data_folder(_NAME, data_dir)
    rows, folder = Rows(_NAME, root), first_there(root, _POSTERS)
    for path, split in zip(paths, _SPLITS.values(), strict=True):
        for line, row in json_lines(path, rows.lost(split)):
            with rows.sample(path, line, split=split):
                id, image = rows.named(id_of(row)), None
                if folder is not None:
                    image = rows.pictures.first(f"{folder.name}/{id}")
                    if image is None:
                        raise BadRow(f"no picture {folder.name}/{id}.jpg")
                text = text_of(row, "synopsis" if "synopsis" in row else "text")
                rows.add(id=id, split=split, text=text, image=image, genres=names_of(row, "label"))
    rows.check()
    return rows.table({"genres": rows.multilabel(rows.sets("genres", rows.column("genres")))})
