"""``movielens_top`` otherwise: the last tenth of all ratings is test, the tenth before validation.

Nothing trains on what comes later, which of leave one out cannot be said; held-out users and films that training does
not have are left out.
"""

from __future__ import annotations

from pathlib import Path

from trainables.data.formats.movielens import sources_of
from trainables.data.formats.movielens_top import read_top
from trainables.data.reading.table import Table

SUMMARY = "MovieLens as top-K recommendation, split by time, 99 sampled candidates; interaction, or rating"
IS_EMBEDDED = False
TARGETS = {"interaction": "multiclass", "rating": "regression"}

_NAME = "movielens_top_time"


def sources(data_dir: str | None) -> list[Path]:
    """The release's tables, and the plots.

    Raises:
        ValueError: no folder, or no known layout in it.
    """
    return sources_of(_NAME, data_dir)


def read(data_dir: str | None) -> Table:
    """Rated films and candidates.

    Raises:
        ValueError: as for :func:`sources`, or a file that cannot be read at all.
    """
    return read_top(_NAME, data_dir, split="time", num_candidates=99)
