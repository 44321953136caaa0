"""News with a picture each (Spanish, say): which topic.

A plain folder of one's own: ``news.jsonl`` or ``news.csv``, or one file a split, with ``title``, ``text``, ``topic``,
``image`` (a path below the folder) and perhaps ``id``, ``split`` and ``source``. Without splits 80/10/10 by hash,
evenly over topics; the same article from two agencies (title and text alike but for case and spaces) stays together.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from trainables.data.reading.cells import composed
from trainables.data.reading.fields import BadRow, id_of, single_text, text_of
from trainables.data.reading.folder import data_folder, first_there, missing
from trainables.data.reading.rows import Rows
from trainables.data.reading.splits import hash_split, with_validation
from trainables.data.reading.table import SPLITS, Table
from trainables.data.reading.textfiles import csv_rows, json_lines

SUMMARY = "your own news with a picture each, e.g. in Spanish; topics"
IS_EMBEDDED = False
TARGETS = {"topic": "multiclass"}

_NAME = "news"
_SPLITS = {name: name for name in SPLITS} | {"dev": "val", "valid": "val", "validation": "val"}
_LAYOUTS = (
    "news.jsonl or news.csv (title, text, topic, image; perhaps id, split, source) and the pictures",
    "train, val (or dev) and test, each .jsonl or .csv, and the pictures",
)


def sources(data_dir: str | None) -> list[Path]:
    """The one file, or one a split.

    Raises:
        ValueError: no folder, or no known layout in it.
    """
    return [path for path, _ in _files(data_folder(_NAME, data_dir))]


def read(data_dir: str | None) -> Table:
    """All articles with a topic, a picture and words.

    Raises:
        ValueError: as for :func:`sources`, a file that cannot be read at all, or splits for some articles only.
    """
    root = data_folder(_NAME, data_dir)
    rows = Rows(_NAME, root, has_local_ids=True)
    for path, file_split in _files(root):
        for line, row in _lines(path, rows, file_split or ""):
            with rows.sample(path, line, split=file_split or ""):
                title, body = (composed(text_of(row, key, default="")) for key in ("title", "text"))
                topic = single_text(row, "topic")
                if rows.cells.is_missing(topic) or not (title or body):
                    raise BadRow("no 'topic'" if rows.cells.is_missing(topic) else "neither 'title' nor 'text'")
                rows.add(
                    id=id_of(row) if row.get("id") not in (None, "") else f"{path.stem}-{line}",
                    split=file_split or _split(row),
                    text=f"{title}. {body}" if title and body else title or body,
                    image=text_of(row, "image"),
                    topic=topic,
                    source=composed(text_of(row, "source", default="")) or None,
                )
    rows.check()
    topics, sources = rows.names("topic", rows.column("topic"), unit="label"), rows.column("source")
    return rows.table(
        {"topic": rows.multiclass(topics)},
        split=_splits(rows, topics),
        categorical={"source": sources} if any(source is not None for source in sources) else None,
    )


def _files(root: Path) -> list[tuple[Path, str | None]]:
    whole = first_there(root, ("news.jsonl", "news.jsonl.gz", "news.csv"))
    if whole is not None:
        return [(whole, None)]
    found = []
    for names, split in ((("train",), "train"), (("val", "dev"), "val"), (("test",), "test")):
        path = first_there(root, [f"{name}{suffix}" for name in names for suffix in (".jsonl", ".jsonl.gz", ".csv")])
        if path is None and split == "val":
            continue  # held out of the training rows
        if path is None:
            raise missing(_NAME, root, f"news.jsonl, news.csv or {names[0]}.jsonl", _LAYOUTS)
        found.append((path, split))
    return found


def _lines(path: Path, rows: Rows, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
    if path.suffix == ".csv":
        return csv_rows(path, rows.lost(split), required=("topic", "image"), remark=rows.remark)
    return json_lines(path, rows.lost(split))


def _split(row: dict[str, Any]) -> str:
    value = text_of(row, "split", default="").lower()
    if value and value not in _SPLITS:
        raise BadRow(f"split {value!r} is none of {', '.join(_SPLITS)}")
    return _SPLITS.get(value, "")


def _splits(rows: Rows, topics: list[str | None]) -> np.ndarray:
    has_split = [bool(split) for split in rows.splits]
    if all(has_split):
        split, note = with_validation(np.array(rows.splits, "<U5"), rows.ids, strata=topics, groups=_articles(rows))
        rows.notes += [] if note is None else [note]
        return split
    if any(has_split):
        where = rows.ids[has_split.index(False)]
        raise ValueError(f"dataset {_NAME}: {rows.root}: some articles have a split and article {where} has none")
    return hash_split(rows.ids, strata=topics, groups=_articles(rows))


def _articles(rows: Rows) -> list[str]:
    """Equal for the same article."""
    return [" ".join((text or "").casefold().split()) for text in rows.texts]
