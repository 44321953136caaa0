"""FashionAI attributes (Zou et al. 2019; Tianchi): pictures of garments, eight attributes.

A row is a picture labelled for one attribute, so each attribute is a target of its own and the other rows have no
label there. Of ``nnymn`` the y is the class; m (maybe) counts as n. Rows of ``rank`` with answers are the test
split; otherwise it is a tenth of the labelled pictures, and rows of ``rank`` stay without labels. A picture that
occurs twice (its file name is the same) is in one split. As pairs of a picture and a text: dataset ``fashionai_pairs``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from trainables.data.reading.fields import BadRow
from trainables.data.reading.folder import data_folder, missing
from trainables.data.reading.rows import Rows
from trainables.data.reading.splits import hash_split, held_out
from trainables.data.reading.table import Table
from trainables.data.reading.textfiles import csv_rows

SUMMARY = "pictures of garments; eight attributes, each a target"
IS_EMBEDDED = False

CLASSES = {
    "skirt_length": ("Invisible", "Short Length", "Knee Length", "Midi Length", "Ankle Length", "Floor Length"),
    "coat_length": (
        "Invisible", "High Waist Length", "Regular Length", "Long Length", "Micro Length", "Knee Length", "Midi Length",
        "Ankle&Floor Length",
    ),
    "collar_design": ("Invisible", "Shirt Collar", "Peter Pan", "Puritan Collar", "Rib Collar"),
    "lapel_design": ("Invisible", "Notched", "Collarless", "Shawl Collar", "Plus Size Shawl"),
    "neck_design": ("Invisible", "Turtle Neck", "Ruffle Semi-High Collar", "Low Turtle Neck", "Draped Collar"),
    "neckline_design": (
        "Invisible", "Strapless Neck", "Deep V Neckline", "Straight Neck", "V Neckline", "Square Neckline",
        "Off Shoulder", "Round Neckline", "Sweat Heart Neck", "One Shoulder Neckline",
    ),
    "pant_length": ("Invisible", "Short Pant", "Mid Length", "3/4 Length", "Cropped Pant", "Full Length"),
    "sleeve_length": (
        "Invisible", "Sleeveless", "Cup Sleeves", "Short Sleeves", "Elbow Sleeves", "3/4 Sleeves", "Wrist Length",
        "Long Sleeves", "Extra Long Sleeves",
    ),
}  # fmt: skip
TARGETS = dict.fromkeys(CLASSES, "multiclass")

_NAME = "fashionai"
_LAYOUTS = (
    "base/Annotations/*.csv with base/Images/, perhaps web/Annotations/*.csv with web/Images/, "
    "perhaps rank/Tests/*.csv with rank/Images/",
)


def sources(data_dir: str | None) -> list[Path]:
    """The lists of labels and questions.

    Raises:
        ValueError: no folder, or no list of labels in it.
    """
    return sources_of(_NAME, data_dir)


def sources_of(name: str, data_dir: str | None) -> list[Path]:
    """The same of a dataset ``name`` that is made of them."""
    return [path for path, _ in _lists(name, data_folder(name, data_dir))]


def read(data_dir: str | None) -> Table:
    """All labelled pictures, and the questions.

    Raises:
        ValueError: as for :func:`sources`, or a list that cannot be read at all.
    """
    rows, split = read_pictures(_NAME, data_dir)
    attributes, labels = rows.column("attribute"), rows.column("label")
    targets = {
        name: rows.multiclass(
            [label if there == name else None for there, label in zip(attributes, labels, strict=True)], classes
        )
        for name, classes in CLASSES.items()
    }
    return rows.table(targets, split=split)


def read_pictures(name: str, data_dir: str | None) -> tuple[Rows, np.ndarray]:
    """The pictures, with columns attribute and label, and the split of each.

    Raises:
        ValueError: as :func:`read`.
    """
    root = data_folder(name, data_dir)
    rows, answered = Rows(name, root), set()
    for path, part in _lists(name, root):
        known = "test" if part == "rank" else ""
        for line, row in csv_rows(path, rows.lost(known), names=("image", "attribute", "value"), remark=rows.remark):
            with rows.sample(path, line, split=known):
                attribute, value = row["attribute"].strip().removesuffix("_labels"), row["value"].strip().lower()
                if attribute not in CLASSES:
                    raise BadRow(f"attribute {row['attribute']!r} is none of {', '.join(CLASSES)}")
                image = f"{part}/{row['image'].strip()}"
                is_question = part == "rank" and not value.strip("?")
                if is_question and image in answered:
                    continue
                label = None if is_question else _class(attribute, value)
                rows.add(id=image, split=part, image=image, attribute=attribute, label=label)
                answered.add(image)
    rows.check()
    return rows, _split(rows)


def _lists(name: str, root: Path) -> Iterator[tuple[Path, str]]:
    """Lists and their part; answers come before questions."""
    lists = [(path, part) for part in ("base", "web") for path in sorted((root / part / "Annotations").glob("*.csv"))]
    if not lists:
        raise missing(name, root, "base/Annotations/label.csv", _LAYOUTS)
    yield from lists
    for path in sorted((root / "rank" / "Tests").glob("*.csv")):  # answer*.csv sorts before question.csv
        yield path, "rank"


def _class(attribute: str, value: str) -> str:
    classes = CLASSES[attribute]
    if len(value) != len(classes) or not set(value) <= {*"ynm"}:
        raise BadRow(f"{value!r} is not {len(classes)} letters y, n or m for {attribute}")
    if value.count("y") != 1:
        raise BadRow(f"{value!r} has {value.count('y')} y, not one")
    return classes[value.index("y")]


def _split(rows: Rows) -> np.ndarray:
    is_test = np.array([part == "rank" for part in rows.splits])
    labels, files = rows.column("label"), [id.rpartition("/")[2] for id in rows.ids]
    has_answers = any(label is not None for label, test in zip(labels, is_test, strict=True) if test)
    split = np.full(len(rows), "test", "<U5")
    in_test = {file for file, test in zip(files, is_test, strict=True) if test}
    rest = [row for row, file in enumerate(files) if file not in in_test]  # a copy of a test picture goes with it
    ids, groups = [rows.ids[row] for row in rest], [files[row] for row in rest]
    strata = [f"{rows.column('attribute')[row]} {labels[row]}" for row in rest]
    if has_answers:
        split[rest] = np.where(held_out(ids, share=0.1, strata=strata, groups=groups), "val", "train")
    else:
        split[rest] = hash_split(ids, strata=strata, groups=groups)
    return split
