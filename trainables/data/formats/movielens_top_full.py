"""``movielens_top`` otherwise: all films that the user did not rate before are candidates."""

from __future__ import annotations

from pathlib import Path

from trainables.data.formats.movielens import sources_of
from trainables.data.formats.movielens_top import read_top
from trainables.data.reading.table import Table

SUMMARY = "MovieLens as top-K recommendation, leave one out, all films as candidates; interaction, or rating"
IS_EMBEDDED = False
TARGETS = {"interaction": "multiclass", "rating": "regression"}

_NAME = "movielens_top_full"


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
    return read_top(_NAME, data_dir, split="leave_one_out", num_candidates=None)
