"""``movielens_top`` otherwise: the last tenth of all ratings is test, the tenth before validation.

Nothing trains on what comes later, which of leave one out cannot be said; held-out users and films that training does
not have are left out.
"""

from __future__ import annotations

from functools import partial

from trainables.data.formats.movielens import sources_of
from trainables.data.formats.movielens_top import CANDIDATES, TARGETS, read_top

__all__ = ["IS_EMBEDDED", "SUMMARY", "TARGETS", "read", "sources"]

SUMMARY = "MovieLens as top-K recommendation, split by time, 99 sampled candidates; interaction, or rating"
IS_EMBEDDED = False

_NAME = "movielens_top_time"

sources = partial(sources_of, _NAME)
read = partial(read_top, _NAME, split="time", num_candidates=CANDIDATES)
