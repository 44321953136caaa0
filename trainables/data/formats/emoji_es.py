"""Emoji with Spanish keywords: the rows, drawings and splits of ``emoji``.

Unlike the English ones, the Spanish keywords may hold words of the emoji's own name and group.
"""

from __future__ import annotations

from pathlib import Path

from trainables.data.formats import emoji
from trainables.data.reading.folder import no_folder
from trainables.data.reading.table import Table

SUMMARY = "3,206 drawings of emoji with Spanish keywords; 8 groups or 95 subgroups"
IS_EMBEDDED = True
TARGETS = emoji.TARGETS


def sources(data_dir: str | None) -> list[Path]:
    """The one file.

    Raises:
        ValueError: a data folder was given.
    """
    no_folder("emoji_es", data_dir)
    return emoji.sources(None)


def read(data_dir: str | None) -> Table:
    """All rows in file order, with Spanish keywords.

    Raises:
        ValueError: a data folder was given.
    """
    no_folder("emoji_es", data_dir)
    return emoji.emoji_table("text_es")
