"""Hateful Memes (Kiela et al. 2020): memes with the text in them, hateful or not.

Phase 1 (train, dev, test.jsonl) or the later release (dev and test, each seen and unseen), with pictures in
``img/``, or as MMF unpacks it. Seen and unseen together make one split, a meme in both counts once; move a
file away to do without it. Test rows of phase 1 have no label.
"""

from __future__ import annotations

from pathlib import Path

from trainables.data.reading.fields import class_of, id_of, is_missing, text_of
from trainables.data.reading.folder import data_folder, first_there, missing
from trainables.data.reading.rows import Rows
from trainables.data.reading.table import Table
from trainables.data.reading.textfiles import json_lines

SUMMARY = "memes and the text in them; hateful or not"
IS_EMBEDDED = False
TARGETS = {"label": "multiclass"}

_NAME = "hateful_memes"
_CLASSES = ("not hateful", "hateful")
_LABELS = {0: _CLASSES[0], 1: _CLASSES[1], "0": _CLASSES[0], "1": _CLASSES[1]}
_LATER = {"dev_seen": "val", "dev_unseen": "val", "test_seen": "test", "test_unseen": "test"}
_PHASE_1 = {"dev": "val", "test": "test"}
_LAYOUTS = (
    "train.jsonl, dev.jsonl, test.jsonl and img/",
    "train.jsonl, {dev,test}_{seen,unseen}.jsonl and img/",
    "annotations/*.jsonl and images/img/ (MMF, perhaps below defaults/)",
)


def sources(data_dir: str | None) -> list[Path]:
    """The annotation files.

    Raises:
        ValueError: no folder, or no known layout in it.
    """
    return list(_annotations(data_folder(_NAME, data_dir)))


def read(data_dir: str | None) -> Table:
    """All memes that have a picture.

    Raises:
        ValueError: as for :func:`sources`, or a file that is no JSON lines.
    """
    root = data_folder(_NAME, data_dir)
    rows = Rows(_NAME, root)
    pictures = _picture_folder(root)
    for path, split in _annotations(root).items():
        before = {id for id, there in zip(rows.ids, rows.splits, strict=True) if there == split}
        for line, row in json_lines(path, rows.lost(split)):
            with rows.sample(path, line, split=split):
                id = rows.named(id_of(row).zfill(5))  # 8291 and "08291" are one meme
                has_label = split != "test" or not is_missing(row, "label")
                label = class_of(row, "label", _LABELS) if has_label else None
                if id not in before:
                    image = pictures + text_of(row, "img")
                    rows.add(id=id, split=split, text=text_of(row, "text"), image=image, label=label)
    rows.check()
    return rows.table({"label": rows.multiclass(rows.column("label"), _CLASSES)})


def _annotations(root: Path) -> dict[Path, str]:
    """Annotation file -> its split."""
    train = first_there(root, ("train.jsonl", "annotations/train.jsonl", "defaults/annotations/train.jsonl"))
    if train is None:
        raise missing(_NAME, root, "train.jsonl", _LAYOUTS)
    for names in (_LATER, _PHASE_1):
        found = {train.with_name(f"{name}.jsonl"): split for name, split in names.items()}
        found = {path: split for path, split in found.items() if path.exists()}
        if "val" in found.values():
            return {train: "train", **found}
    raise missing(_NAME, train.parent, "dev.jsonl, dev_seen.jsonl or dev_unseen.jsonl", _LAYOUTS)


def _picture_folder(root: Path) -> str:
    """What a row's ``img`` (``img/08291.png``) is below, with a slash at its end, or ''."""
    folders = ("", "images/", "images/data/", "defaults/images/", "defaults/images/data/")
    found = next((folder for folder in folders if (root / folder / "img").is_dir()), None)
    if found is None:
        raise missing(_NAME, root, "folder img", _LAYOUTS)
    return found
