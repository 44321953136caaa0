"""What other studies teach this one: where their trials lie in its space, by rank. Nothing of their values is kept.

A study's trials are ranked among those of their family: on the highest rung that each came to, those of higher rungs
first, as whoever went on was better. So trials of another dataset, and another metric, can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mmtune.search.promotion import standings
from mmtune.search.rungs import Member

_GOOD_SHARE, _LEAST_GOOD, _MOST_GOOD = 0.25, 4, 64


@dataclass(frozen=True)
class Lesson:
    """A trial of another study, as far as it lies in this space."""

    study: str
    trial: str
    family: str
    rank: int
    """Among the study's trials of its family, from 1."""
    of: int
    """So many."""
    place: Mapping[str, float]
    """As :func:`mmtune.space.drawing.place` has it; what is not known of it is left out."""

    @property
    def is_good(self) -> bool:
        """Whether proposals may go near it: one of the best quarter."""
        return self.rank <= min(max(_LEAST_GOOD, int(_GOOD_SHARE * self.of)), _MOST_GOOD)


def ranked(members: Sequence[Member], rungs: Sequence[int]) -> list[Member]:
    """The members of one family that stand on a rung, best first; last those that failed or have no value."""
    found: dict[int, Member] = {}
    dead: dict[int, Member] = {}
    for index in reversed(range(len(rungs))):
        for value, number, member in standings(members, rungs, index):
            (found if math.isfinite(value) else dead).setdefault(number, member)
    return [*found.values(), *(member for number, member in dead.items() if number not in found)]


def lessons_of(
    study: str,
    members: Sequence[Member],
    rungs: Sequence[int],
    *,
    names: Callable[[int], str],
    places: Callable[[Member], Mapping[str, float]],
) -> Iterator[Lesson]:
    """A lesson for each member that stands on a rung.

    Args:
        study: what it is called.
        members: its trials.
        rungs: of its schedule.
        names: a member's number -> the trial's id.
        places: where a member lies in the space that is to be searched.
    """
    for family in dict.fromkeys(member.family for member in members):
        best_first = ranked([member for member in members if member.family == family], rungs)
        for rank, member in enumerate(best_first, start=1):
            yield Lesson(study, names(member.number), family, rank, len(best_first), places(member))
