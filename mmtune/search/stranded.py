"""Which paused trials can hardly return: too many better ones stand on their rung, whatever is still to come.

A rung of at most N trials promotes its best N // eta. Ranks only get worse as others come, unless one of those ahead
turns out to be infeasible; so whoever stands behind the first N // eta, of its family and of all families, goes on in
no other case. Nor does it as the leader of its family, as long as others are ahead there. What it needs to go on can be
given up: should it return after all, it trains from its start to the same digits.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from mmtune import records
from mmtune.search.promotion import View, standings
from mmtune.search.rungs import Member, Rules

_LEADERS = 2  # the best of each family stay, beside the rule: one may fail


def stranded(view: View, rules: Rules, number: int) -> list[int]:
    """The paused trials that can hardly return, of those on the rung that trial ``number`` has come to.

    Args:
        view: with several objectives nothing is stranded, as ranks then change; nor without a limit on configurations.
        rules: of the schedule.
        number: of a paused trial.
    """
    member = next(member for member in view.members if member.number == number)
    bracket = rules.bracket_of(number)
    ladder, family = rules.from_bracket(bracket), [other for other in view.members if other.family == member.family]
    if view.room is None or member.points or member.until not in ladder.rungs[:-1]:
        return []
    ahead = {leader.number for leader in _leaders(family)}
    for members in (family, view.members):
        own = [other for other in members if rules.bracket_of(other.number) == bracket]
        ahead |= {other.number for other in _may_go_on(own, ladder, ladder.rungs.index(member.until), view.room)}
    paused = [other for other in family if other.state == records.PAUSED and other.until == member.until]
    behind = [other.number for other in paused if other.number not in ahead]
    return [number for number in behind if rules.bracket_of(number) == bracket]


def _may_go_on(members: Sequence[Member], ladder: Rules, index: int, room: int) -> list[Member]:
    """Those of a ladder that stand in the part of a rung that may be promoted, with ``room`` more on the ladder."""
    most = room + len(members)
    for below in range(index):
        most = max(most // ladder.eta, len(standings(members, ladder.rungs, below + 1)))
    return [member for _, _, member in standings(members, ladder.rungs, index)[: most // ladder.eta]]


def _leaders(family: Sequence[Member]) -> list[Member]:
    """Those of a family that have done best and did not fail."""
    alive = [other for other in family if other.bests and other.state not in (records.FAILED, records.INFEASIBLE)]
    return heapq.nsmallest(_LEADERS, alive, key=lambda member: (member.bests[-1], member.number))
