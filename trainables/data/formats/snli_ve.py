"""SNLI-VE (Xie et al. 2019): does a Flickr30k picture entail a sentence, contradict it, or neither?

The text is the hypothesis; ``sentence1``, the caption that stood for the picture in SNLI, is not used.
"""

from __future__ import annotations

from pathlib import Path

from trainables.data.reading.fields import BadRow, class_of, id_of, text_of
from trainables.data.reading.folder import data_folder, first_there, missing
from trainables.data.reading.rows import Rows
from trainables.data.reading.table import Table
from trainables.data.reading.textfiles import json_lines

SUMMARY = "Flickr30k pictures and sentences; entailment, neutral or contradiction"
IS_EMBEDDED = False
TARGETS = {"label": "multiclass"}

_NAME = "snli_ve"
_CLASSES = ("entailment", "neutral", "contradiction")
_SPLITS = {"train": "train", "dev": "val", "test": "test"}
_PICTURES = ("flickr30k-images", "flickr30k_images", "Flickr30K/flickr30k-images", "images")
_LAYOUTS = ("snli_ve_train.jsonl, snli_ve_dev.jsonl, snli_ve_test.jsonl and flickr30k-images/",)


def sources(data_dir: str | None) -> list[Path]:
    """The three annotation files.

    Raises:
        ValueError: no folder, or one of them is missing.
    """
    root = data_folder(_NAME, data_dir)
    paths = [root / f"snli_ve_{name}.jsonl" for name in _SPLITS]
    for path in paths:
        if not path.exists():
            raise missing(_NAME, root, path.name, _LAYOUTS)
    return paths


def read(data_dir: str | None) -> Table:
    """All pairs whose picture is there.

    Raises:
        ValueError: as for :func:`sources`, no pictures, or a file that is no JSON lines.
    """
    root, paths = data_folder(_NAME, data_dir), sources(data_dir)
    folder = first_there(root, _PICTURES)
    if folder is None:
        raise missing(_NAME, root, "folder flickr30k-images", _LAYOUTS)
    pictures = folder.relative_to(root).as_posix()
    rows, classes = Rows(_NAME, root), {name: name for name in _CLASSES}
    for path, split in zip(paths, _SPLITS.values(), strict=True):
        for line, row in json_lines(path, rows.lost(split)):
            with rows.sample(path, line, split=split):
                rows.add(
                    id=rows.named(id_of(row, "pairID")),
                    split=split,
                    text=text_of(row, "sentence2"),
                    image=f"{pictures}/{_picture(row)}.jpg",
                    label=class_of(row, "gold_label", classes),
                )
    rows.check()
    return rows.table({"label": rows.multiclass(rows.column("label"), _CLASSES)})


def _picture(row: dict[str, object]) -> str:
    """The Flickr30k id without '.jpg': older files misspell the key, and only some add the suffix."""
    for key in ("Flickr30K_ID", "Flikr30kID"):
        if row.get(key) is not None:
            return id_of(row, key).removesuffix(".jpg")
    raise BadRow("no 'Flickr30K_ID' or 'Flikr30kID'")
