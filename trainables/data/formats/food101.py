"""UPMC Food-101 (Wang et al. 2015): pictures of dishes and the web pages they are from; which of 101 dishes.

Read from lists of page titles (Kaggle's copy), from page texts in single files, or from what MMBT's script makes
of those. There is no validation part except in MMBT's: 5,000 training rows are held out, evenly over the classes.
Most titles name the dish; that is the data set as published.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from trainables.data.reading.fields import BadRow, id_of, text_of
from trainables.data.reading.folder import data_folder, missing
from trainables.data.reading.rows import Rows
from trainables.data.reading.splits import held_out
from trainables.data.reading.table import Table
from trainables.data.reading.textfiles import csv_rows, json_lines

SUMMARY = "pictures of dishes and titles or texts of their web pages; 101 dishes"
IS_EMBEDDED = False
TARGETS = {"label": "multiclass"}

_NAME = "food101"
_VAL = 5000  # rows, and at most a tenth of the training part
_MMBT = {"train": "train", "dev": "val", "test": "test"}
_NUMBER = re.compile(r"_([\d-]+)\.\w+$")
_LAYOUTS = (
    "images/{train,test}/CLASS/*.jpg and texts/{train,test}_titles.csv",
    "images/{train,test}/CLASS/*.jpg and texts_txt/CLASS/CLASS_NUMBER.txt",
    "train.jsonl, dev.jsonl, test.jsonl (MMBT) and the pictures that they name",
)


def sources(data_dir: str | None) -> list[Path]:
    """The annotation files; page texts are one file a picture.

    Raises:
        ValueError: no folder, or no known layout in it.
    """
    root = data_folder(_NAME, data_dir)
    kind = _layout(root)
    if kind == "mmbt":
        return [root / f"{name}.jsonl" for name in _MMBT]
    if kind == "titles":
        return [root / f"texts/{split}_titles.csv" for split in ("train", "test")]
    return [text for _, _, text in _pages(root) if text.exists()]


def read(data_dir: str | None) -> Table:
    """All pictures with a title or a page.

    Raises:
        ValueError: as for :func:`sources`, or a file that cannot be read at all.
    """
    root = data_folder(_NAME, data_dir)
    kind, rows = _layout(root), Rows(_NAME, root, has_local_ids=True)
    {"mmbt": _read_mmbt, "titles": _read_titles, "pages": _read_pages}[kind](rows)
    rows.check()
    labels, split = rows.names("label", rows.column("label"), unit="label"), np.array(rows.splits, "<U5")
    if kind != "mmbt":
        train = np.flatnonzero(split == "train")
        ids, strata = [rows.ids[row] for row in train], [labels[row] for row in train]
        split[train[held_out(ids, count=min(_VAL, max(1, len(train) // 10)), strata=strata)]] = "val"
    return rows.table({"label": rows.multiclass(labels)}, split=split)


def _layout(root: Path) -> str:
    if all((root / f"{name}.jsonl").exists() for name in _MMBT):
        return "mmbt"
    if (root / "texts").is_dir():
        for split in ("train", "test"):
            if not (root / f"texts/{split}_titles.csv").exists():
                raise missing(_NAME, root, f"texts/{split}_titles.csv", _LAYOUTS)
        return "titles"
    if (root / "texts_txt").is_dir():
        for split in ("train", "test"):
            if not (root / "images" / split).is_dir():
                raise missing(_NAME, root, f"folder images/{split}", _LAYOUTS)
        return "pages"
    raise missing(_NAME, root, "texts/train_titles.csv, folder texts_txt or train.jsonl", _LAYOUTS)


def _read_mmbt(rows: Rows) -> None:
    for name, split in _MMBT.items():
        path = rows.root / f"{name}.jsonl"
        for line, row in json_lines(path, rows.lost(split)):
            with rows.sample(path, line, split=split):
                rows.add(
                    id=rows.named(id_of(row)),
                    split=split,
                    text=text_of(row, "text"),
                    image=text_of(row, "img"),
                    label=id_of(row, "label"),
                )


def _read_titles(rows: Rows) -> None:
    for split in ("train", "test"):
        path = rows.root / f"texts/{split}_titles.csv"
        known = split if split == "test" else ""  # some of train become val
        for line, row in csv_rows(path, rows.lost(known), names=("file", "title", "label")):
            with rows.sample(path, line, split=known):
                label, name = row["label"].strip(), f"{split}/{row['label'].strip()}/{row['file'].strip()}"
                if not label:
                    raise BadRow("no class")
                rows.add(id=name, split=split, text=row["title"].strip(), image=f"images/{name}", label=label)


def _pages(root: Path) -> Iterator[tuple[str, Path, Path]]:
    """(split, picture, its page's text) in the order of names."""
    for split in ("train", "test"):
        for folder in sorted(path for path in (root / "images" / split).iterdir() if path.is_dir()):
            for picture in sorted(folder.iterdir()):
                number = _NUMBER.search(picture.name)
                if number is not None:
                    yield split, picture, root / "texts_txt" / folder.name / f"{folder.name}_{number[1]}.txt"


def _read_pages(rows: Rows) -> None:
    for split, picture, page in _pages(rows.root):
        name, label = picture.relative_to(rows.root / "images").as_posix(), picture.parent.name
        with rows.sample(picture, id=name, split=split if split == "test" else ""):
            if not page.exists():
                raise BadRow(f"has no text {page.relative_to(rows.root).as_posix()}")
            data = page.read_bytes()
            text = " ".join(data.decode("utf-8", "replace").split())
            rows.add(id=name, split=split, text=text, image=f"images/{name}", label=label)
            if "\ufffd" in text and "\ufffd".encode() not in data:
                rows.note(page, None, "not UTF-8: what cannot be read is replaced")
