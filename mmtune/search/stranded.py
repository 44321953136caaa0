"""Which paused trials can hardly return: too many better ones stand on their rung, whatever is still to come.

A rung of at most N trials promotes its best N // eta. Ranks only get worse as others come, unless one of those ahead
turns out to be infeasible; so whoever stands behind the first N // eta goes on in no other case. Nor does it as the
leader of its family, as long as others are ahead there. What it needs to go on can be given up: should it return after
all, it trains from its start to the same digits.
"""

from __future__ import annotations

import heapq

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
    own = [other for other in family if rules.bracket_of(other.number) == bracket]
    index = ladder.rungs.index(member.until)
    most = view.room + len(own)
    for below in range(index):
        most = max(most // rules.eta, len(standings(own, ladder.rungs, below + 1)))
    ranked = [other for _, _, other in standings(own, ladder.rungs, index)]
    behind = [other for other in ranked[most // rules.eta :] if other.state == records.PAUSED]
    leaders = _leaders(family)
    return [other.number for other in behind if other.until == member.until and other.number not in leaders]


def _leaders(family: list[Member]) -> set[int]:
    """Those of a family that have done best and did not fail."""
    alive = [other for other in family if other.bests and other.state not in (records.FAILED, records.INFEASIBLE)]
    best = heapq.nsmallest(_LEADERS, alive, key=lambda member: (member.bests[-1], member.number))
    return {member.number for member in best}
