"""Emoji: 1,603 emoji in two artworks with keywords, embedded in this package.

Built by ``scripts/build_emoji.py`` from emojibase-data (keywords of Unicode CLDR) and the Noto and Twemoji
drawings; split 70/10/20 by emoji, so that its two drawings stay together. The keywords leave out the emoji's own
name and words of its group. Name, order and code point give the group away and are not read. English here,
Spanish as dataset ``emoji_es``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trainables.data.reading.folder import no_folder
from trainables.data.reading.parquet import open_parquet
from trainables.data.reading.table import Table
from trainables.data.reading.targets import multiclass

SUMMARY = "3,206 drawings of emoji with English keywords; 8 groups or 95 subgroups"
IS_EMBEDDED = True
TARGETS = {"group": "multiclass", "subgroup": "multiclass"}

_FILE = Path(__file__).parents[1] / "embedded" / "emoji40.parquet"


def sources(data_dir: str | None) -> list[Path]:
    """The one file.

    Raises:
        ValueError: a data folder was given.
    """
    no_folder("emoji", data_dir)
    return [_FILE]


def read(data_dir: str | None) -> Table:
    """All rows in file order, with English keywords.

    Raises:
        ValueError: a data folder was given.
    """
    no_folder("emoji", data_dir)
    return emoji_table("text")


def emoji_table(text: str) -> Table:
    """The table with its texts from column ``text`` of the file."""
    columns = ["id", "split", text, "image", "label", "subgroup"]
    with open_parquet(_FILE) as file:
        rows = file.read(columns).to_pydict()
    return Table(
        ids=rows["id"],
        split=np.array(rows["split"], "<U5"),
        texts=rows[text],
        images=rows["image"],
        targets={"group": multiclass(rows["label"]), "subgroup": multiclass(rows["subgroup"])},
    )
