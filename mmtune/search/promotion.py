"""Which trial trains to which epoch next: asynchronous successive halving by promotion, as a function of what is known.

ASHA (Li et al. 2020, Algorithm 2) with the delayed promotion of Hyper-Tune (Li et al. 2022, D-ASHA): trials pause at
the rungs of a ladder, and of the n that reached a rung the best ``n // eta`` go on from there, one whenever a worker is
free and fewer than that have gone on. Nothing is stopped for good before the study ends, so a mistake of an early rung
is put right as soon as the rung's ranks say so. With several objectives a rung ranks by fronts, and within a front by
what a trial adds to it, so that the whole front goes on and not its middle. No clock, no disk and no randomness here:
the same members give the same job, whoever asks and whenever.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Literal

import numpy as np

from mmtune import records
from mmtune.search.board import Board
from mmtune.search.rungs import Member, Rules
from trainables.dominance import spread_order

SMALLEST_SHARE = 25  # the first rung is at least one epoch in so many: before that, ranks say little
NEAR_THE_END = 1.5  # no rung from which the last epoch is less than this factor away
MOST_KEPT = 0.25  # of a budget of time, for training leaders whole
_last = threading.local()  # the board of the last decision


def ladder(length: int, *, grace: int, eta: int) -> tuple[int, ...]:
    """The epochs at which trials of ``length`` epochs pause: g, eta g, eta² g, ..., and ``length`` itself at the end.

    Args:
        length: epochs of a whole trial.
        grace: g is at least this; more if a twenty-fifth of the length is more.
        eta: rungs are so many times apart.
    """
    rungs = []
    rung = max(1, grace, length // SMALLEST_SHARE)
    while rung * NEAR_THE_END < length:
        rungs.append(rung)
        rung *= eta
    return (*rungs, length)


@dataclass(frozen=True)
class View:
    """All that a decision depends on."""

    members: Sequence[Member]
    live: Collection[int] = ()
    """Numbers of those that a worker has."""
    room: int | None = None
    """Configurations that may still be proposed; None without such a budget."""
    seconds_left: float | None = None
    """Device-seconds of the budget that are left; None without such a budget."""
    epochs_left: int | None = None
    """Epochs of the budget that are left; None without such a budget."""
    next_number: int = 0
    """Of the configuration that would be proposed next."""


@dataclass(frozen=True)
class Go:
    """A job: train to an epoch."""

    number: int | None
    """None: a new configuration."""
    until: int


def next_job(view: View, rules: Rules) -> Go | Literal["wait", "done"]:
    """What a free worker does.

     1. A trial that was interrupted goes on to where it was going.
     2. Where the time or the epochs left are just enough for it, the leader of each family that is not trained
        whole, best first; nothing else. A quarter of the budget at most is kept for them, or what the best one takes.
     3. From the highest rung down, the best member that may be promoted.
     4. A new configuration.
     5. Nothing new is left: the leaders, as in 2, once no other trial of their family is under way.

    Returns:
        A job; 'wait' if what is under way may make one, 'done' if nothing can.
    """
    board = _board(view.members, rules)
    for member in board.open():
        if member.number not in view.live:
            return Go(member.number, member.until)
    waiting = [leader for leader in board.leaders() if leader.state == records.PAUSED]
    whole = rules.rungs[-1]
    is_staged = len(rules.rungs) > 1
    if is_staged and _is_for_leaders(view, waiting, board):
        if waiting:
            return Go(waiting[0].number, whole)
        if view.live:
            return "wait"
    promoted = _promotion(board)
    if promoted is not None:
        return promoted
    if view.room is None or view.room > 0:
        return Go(None, rules.first_rung(view.next_number))
    busy = {board.members[number].family for number in view.live if number in board.members}
    for leader in waiting:
        if leader.family not in busy:
            return Go(leader.number, whole)
    return "wait" if view.live and is_staged else "done"


def standings(members: Sequence[Member], rungs: Sequence[int], index: int) -> list[tuple[float, int, Member]]:
    """(value, number, member) of those that stand on a rung, best first; of equals the earlier configuration.

    With several objectives the value is a member's place among them by :func:`trainables.dominance.spread_order`.
    """
    found = [(value, m.number, m) for m in members if (value := m.value_at(rungs, index)) is not None]
    found.sort(key=itemgetter(0, 1))
    if not any(member.points for _, _, member in found):
        return found
    alive = [member for value, _, member in found if math.isfinite(value)]
    points = np.array([member.points[min(rungs[index], member.epoch) - 1] for member in alive])
    order = spread_order(points) if alive else []
    dead = [entry for entry in found if not math.isfinite(entry[0])]
    return [(float(place), alive[row].number, alive[row]) for place, row in enumerate(order)] + dead


def _board(members: Sequence[Member], rules: Rules) -> Board:
    """The board of these members. The last one is kept: mostly they are the last ones but for a few."""
    board: Board | None = getattr(_last, "board", None)
    if board is None or board.rules != rules:
        board = _last.board = Board(rules, standings)
    board.show(members)
    return board


def _promotion(board: Board) -> Go | None:
    """The promotion from the highest rung that has one: of all families together, else of the one that had fewest."""
    rules, spent = board.rules, board.spent()
    is_mixed = len({family for family, _ in board.ladders if family}) > 1
    for index in reversed(range(len(rules.rungs) - 1)):
        offers = []
        for (family, bracket), ladder in board.ladders.items():
            at = index - bracket
            if (family is None and not is_mixed) or at < 0:
                continue
            if spent[family, bracket][at + 1] > spent[family, bracket][at]:
                continue
            num_promoted, best = ladder.promotion(at, rules.eta)
            if best is not None:
                offers.append((family is not None, num_promoted, family or "", bracket, best.number))
        if offers:
            return Go(min(offers)[-1], rules.rungs[index + 1])
    return None


def _is_for_leaders(view: View, leaders: Sequence[Member], board: Board) -> bool:
    """Whether what is left of a budget is only what nothing new may take; of each it is told what an epoch of a member
    will take, and has taken."""
    budgets = (
        (view.epochs_left, lambda member: 1, lambda member: 1),
        (view.seconds_left, lambda member: _price(member, board), lambda member: member.seconds or 0.0),
    )
    return any(
        left is not None and left <= _kept(view, leaders, board, left, price, paid) for left, price, paid in budgets
    )


def _kept(
    view: View,
    leaders: Sequence[Member],
    board: Board,
    left: float,
    price: Callable[[Member], float],
    paid: Callable[[Member], float],
) -> float:
    """What nothing new may take: it ends what is under way, and trains leaders whole."""
    live = [board.members[number] for number in sorted(view.live) if number in board.members]
    to_end = math.fsum(price(member) * max(0, member.until - member.epoch) for member in live)
    whole = board.rules.rungs[-1]
    needs = [price(leader) * max(0, whole - leader.epoch) for leader in leaders]
    in_all = math.fsum(needs)
    if not needs or left > to_end + in_all:
        return to_end + in_all
    spent = math.fsum(member.epoch * paid(member) for member in view.members)
    return to_end + min(in_all, max(needs[0], MOST_KEPT * (spent + left)))


def _price(member: Member, board: Board) -> float:
    """Device-seconds of one of its epochs, as far as they are known."""
    return member.seconds or board.families[member.family].prices.usual or 0.0
