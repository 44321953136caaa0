"""``movielens_top`` otherwise: all films that the user did not rate before are candidates."""

from __future__ import annotations

from functools import partial

from trainables.data.formats.movielens import sources_of
from trainables.data.formats.movielens_top import TARGETS, read_top

__all__ = ["IS_EMBEDDED", "SUMMARY", "TARGETS", "read", "sources"]

SUMMARY = "MovieLens as top-K recommendation, leave one out, all films as candidates; interaction, or rating"
IS_EMBEDDED = False

_NAME = "movielens_top_full"

sources = partial(sources_of, _NAME)
read = partial(read_top, _NAME, split="leave_one_out", num_candidates=None)
