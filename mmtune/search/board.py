"""Where each trial stands on the rungs, kept while trials change: a decision looks at what is new since the last one.

A board is a function of its members: shown one by one, in whatever order and however often, they make the board that
they make at once. Sums are of whole epochs, or by ``math.fsum``, so that no order shows in them.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise

from mmtune import records
from mmtune.search.rungs import Member, Rules

_CLOCK_NOISE = 4.0  # within this factor an epoch counts as its family's median, and families count as equally dear
Ranking = Callable[[Sequence[Member], Sequence[int], int], Sequence[tuple[float, int, Member]]]


class Prices:
    """Device-seconds of an epoch, of those members that have a price."""

    def __init__(self) -> None:
        self.sorted: list[tuple[float, int]] = []

    @property
    def usual(self) -> float | None:
        """The lower median; None without any."""
        return self.sorted[(len(self.sorted) - 1) // 2][0] if self.sorted else None

    def change(self, member: Member, *, is_new: bool) -> None:
        """Adds or removes a member's price, if it has one."""
        if member.seconds:
            _change(self.sorted, (member.seconds, member.number), is_new=is_new)

    def odd(self) -> Iterator[tuple[int, float]]:
        """The numbers of those whose price is far from the usual one, and their prices in it."""
        usual = self.usual or 1.0
        for entries in (self.sorted, reversed(self.sorted)):
            for price, number in entries:
                if 1 / _CLOCK_NOISE <= price / usual <= _CLOCK_NOISE:
                    break
                yield number, price / usual


class Ladder:
    """The members of one family that climb the same rungs."""

    def __init__(self, rungs: Sequence[int], ranking: Ranking) -> None:
        self.rungs, self.members, self._ranking = tuple(rungs), dict[int, Member](), ranking
        self._ways = list(pairwise((0, *self.rungs)))
        self._standing: list[list[tuple[float, int]]] = [[] for _ in self.rungs]
        self._gone_on = [0] * len(self.rungs)
        self._epochs = [0] * len(self.rungs)
        self._prices, self._num_points = Prices(), 0

    def change(self, member: Member, *, is_new: bool) -> None:
        """Adds or removes a member."""
        sign = 1 if is_new else -1
        if is_new:
            self.members[member.number] = member
        else:
            del self.members[member.number]
        for index, rung in enumerate(self.rungs):
            value = member.value_at(self.rungs, index)
            if value is not None:
                _change(self._standing[index], (value, member.number), is_new=is_new)
                self._gone_on[index] += sign * (member.until > rung)
        for index, epochs in enumerate(self._trained(member)):
            self._epochs[index] += sign * epochs
        self._prices.change(member, is_new=is_new)
        self._num_points += sign * bool(member.points)

    def spent(self) -> list[float]:
        """What the way to each rung from the one below has cost the members, what is promised included.

        In epochs of the family's median price: readings of a clock differ from run to run, so that a price counts only
        where it is far from the median.
        """
        beyond: list[list[float]] = [[] for _ in self.rungs]
        for number, price in self._prices.odd():
            for index, epochs in enumerate(self._trained(self.members[number])):
                beyond[index].append((price - 1.0) * epochs)
        return [math.fsum((epochs, *more)) for epochs, more in zip(self._epochs, beyond, strict=True)]

    def promotion(self, index: int, eta: int) -> tuple[int, Member | None]:
        """How many were promoted from a rung, and the one that may be next."""
        rung, members, promoted = self.rungs[index], self.members, self._gone_on[index]
        num_top = len(self._standing[index]) // eta
        if promoted >= num_top:
            return promoted, None
        if self._num_points:
            ranked = [number for _, number, _ in self._ranking(list(members.values()), self.rungs, index)]
        else:
            ranked = [number for _, number in self._standing[index][:num_top]]
        top = [members[number] for number in ranked[:num_top]]
        promoted += sum(member.until <= rung and member.state == records.COMPLETE for member in top)  # without training
        if promoted >= len(top):
            return promoted, None
        candidates = (member for member in top if member.state == records.PAUSED and member.until == rung)
        return promoted, next(candidates, None)

    def _trained(self, member: Member) -> Iterator[int]:
        """Epochs on the way to each rung from the one below, what is promised included."""
        last = member.promised
        for below, rung in self._ways:
            if last <= below:
                return
            yield min(last, rung) - below


class Family:
    """The members of one family, whichever rungs they climb."""

    def __init__(self) -> None:
        self.prices, self.promised = Prices(), 0  # epochs of all of them
        self.leading: list[tuple[float, int]] = []
        """Best value and number of those that have one and neither failed nor broke a constraint, best first."""
        self._members: dict[int, Member] = {}
        self._values: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self._members)

    def __getitem__(self, number: int) -> Member:
        return self._members[number]

    def change(self, member: Member, *, is_new: bool) -> None:
        """Adds or removes a member."""
        if is_new:
            self._members[member.number] = member
        else:
            del self._members[member.number]
        self.prices.change(member, is_new=is_new)
        self.promised += member.promised if is_new else -member.promised
        if not is_new:
            self._values.pop(member.number, None)
        elif member.bests or member.state == records.FAILED:
            self._values[member.number] = math.inf if member.state == records.FAILED else member.bests[-1]
        if member.bests and member.state not in (records.FAILED, records.INFEASIBLE):
            _change(self.leading, (member.bests[-1], member.number), is_new=is_new)

    def by_number(self) -> list[Member]:
        """In the order in which they were proposed."""
        return [self._members[number] for number in sorted(self._members)]

    def values(self) -> list[float]:
        """The best of each that has one, infinite of those that failed, in the order in which they were proposed."""
        return [self._values[number] for number in sorted(self._values)]


class Families:
    """All members of a search by family."""

    def __init__(self) -> None:
        self.members: dict[int, Member] = {}
        self.families: dict[str, Family] = defaultdict(Family)

    def show(self, members: Sequence[Member]) -> None:
        """From now on these are its members; those that are the same object as before take no time."""
        known = self.members
        changed = [member for member in members if known.get(member.number) is not member]
        if len(known) + sum(member.number not in known for member in changed) > len(members):
            for number in known.keys() - {member.number for member in members}:
                self._change(known.pop(number), is_new=False)
        for member in changed:
            old = known.get(member.number)
            if old is not None:
                self._change(old, is_new=False)
            known[member.number] = member
            self._change(member, is_new=True)

    def _change(self, member: Member, *, is_new: bool) -> None:
        self.families[member.family].change(member, is_new=is_new)


class Board(Families):
    """All members of a search by family and ladder, and all families together.

    Args:
        rules: of its schedule.
        ranking: orders a rung where there are several objectives.
    """

    def __init__(self, rules: Rules, ranking: Ranking) -> None:
        super().__init__()
        self.rules, self._ranking = rules, ranking
        self.ladders: dict[tuple[str | None, int], Ladder] = {}  # by family, and of all together as None, and bracket
        self._open: dict[int, Member] = {}

    def open(self) -> list[Member]:
        """Those that wait or run, by number."""
        return [member for _, member in sorted(self._open.items())]

    def spent(self) -> dict[tuple[str | None, int], list[float]]:
        """What the way to each rung from the one below has cost, by family and ladder; of all together as None.

        A family's is in epochs of its own median price; of all together in epochs of the cheapest family's.
        """
        spent = {key: ladder.spent() for key, ladder in self.ladders.items() if key[0] is not None}
        multiples = in_steps({name: usual for name, known in self.families.items() if (usual := known.prices.usual)})
        for family, bracket in self.ladders:
            if family is None:
                own = [
                    [multiples.get(name, 1.0) * epochs for epochs in ways]
                    for (name, at), ways in spent.items()
                    if name is not None and at == bracket
                ]
                spent[None, bracket] = [math.fsum(ways) for ways in zip(*own, strict=True)]
        return spent

    def leaders(self) -> list[Member]:
        """The member with the best value at any epoch of each family, best first."""
        best = sorted(family.leading[0] for family in self.families.values() if family.leading)
        return [self.members[number] for _, number in best]

    def _change(self, member: Member, *, is_new: bool) -> None:
        super()._change(member, is_new=is_new)
        if not is_new:
            self._open.pop(member.number, None)
        elif member.state in (records.WAITING, records.RUNNING):
            self._open[member.number] = member
        bracket = self.rules.bracket_of(member.number)
        for key in ((member.family, bracket), (None, bracket)):
            if key not in self.ladders:
                self.ladders[key] = Ladder(self.rules.rungs[bracket:], self._ranking)
            self.ladders[key].change(member, is_new=is_new)


def in_steps(prices: Mapping[str, float]) -> dict[str, float]:
    """Prices as multiples of the cheapest, as :func:`in_step`: readings of a clock differ from run to run."""
    cheapest = min(prices.values(), default=1.0)
    return {name: in_step(price / cheapest) for name, price in prices.items()}


def in_step(multiple: float) -> float:
    """A multiple of a price, rounded to a power of 4."""
    return _CLOCK_NOISE ** round(math.log(multiple, _CLOCK_NOISE))


def _change(entries: list, entry: tuple[float, int], *, is_new: bool) -> None:
    """Puts an entry into a sorted list, or takes it out; what is no number is last."""
    entry = (math.inf if math.isnan(entry[0]) else entry[0], entry[1])
    if is_new:
        insort(entries, entry)
    else:
        del entries[bisect_left(entries, entry)]
