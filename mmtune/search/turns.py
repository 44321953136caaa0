"""Which family the next new trial is of, where the family is searched: each gets what it is worth of the budget.

Families take turns: next is the one that has had least of its share, counted in what the budget is. Of a budget of
hours these are device-seconds: as many trials of each would spend nearly everything on the dearest, of which an epoch
may cost a hundred of another's. Of a budget of trials they are trials: what they cost is not what is short. A part is
shared evenly, so that each family is tried in earnest and the comparison stays fair; the rest goes by Thompson sampling
(Thompson 1933; as a bootstrap, Eckles & Kaptein 2014): the probability that a family's best third is the best.

Prices are rounded, since readings of a clock differ from run to run: the same reports then give the same turns, unless
a family's price lies near an edge. No clock, no disk here; randomness comes from the caller.

F: families, D: draws, M: members of a family.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from statistics import median_low

import numpy as np

from mmtune import records
from mmtune.search.board import in_steps
from mmtune.search.rungs import Member

_DRAWS = 32


def next_family(
    families: Sequence[str], *, members: Sequence[Member], rng: random.Random, even_share: float, by_cost: bool
) -> str:
    """The family that has had least of its share, of equals one drawn at random.

    Args:
        families: those that are searched.
        members: the trials so far.
        rng: all randomness comes from here.
        even_share: how much is shared out evenly; 1 leaves nothing to what families promise.
        by_cost: shares are of device-seconds, not of trials.
    """
    trials = Counter(member.family for member in members)
    spent = _spent(families, members) if by_cost else {family: float(trials[family]) for family in families}
    shares = {family: even_share / len(families) for family in families}
    if even_share < 1:
        for family, chance in _chances(families, members, rng).items():
            shares[family] += (1 - even_share) * chance
    had = {family: spent[family] / share if (share := shares[family]) else math.inf for family in families}
    least = min(had.values())
    return rng.choice([family for family in families if had[family] == least])


def _spent(families: Sequence[str], members: Sequence[Member]) -> dict[str, float]:
    """Epochs of each family, what is promised included, times its price as a multiple of the cheapest's."""
    epochs, seconds = dict.fromkeys(families, 0), {family: [] for family in families}
    for member in members:
        if member.family in epochs:
            epochs[member.family] += member.promised
            seconds[member.family] += [member.seconds] if member.seconds else []
    prices = {family: median_low(known) for family, known in seconds.items() if known}
    multiples = in_steps(prices)
    return {family: epochs[family] * multiples.get(family, 1.0) for family in families}


def _chances(families: Sequence[str], members: Sequence[Member], rng: random.Random) -> dict[str, float]:
    """How probable it is of each family that its best third is the best, the mean over it.

    A draw takes as many of a family's values as there are, and one more, from these and the best value of all: the
    fewer a family has, the more it may still surprise.
    """
    values: dict[str, list[float]] = {family: [] for family in families}
    for member in members:
        if member.family in values and (member.bests or member.state == records.FAILED):
            values[member.family].append(math.inf if member.state == records.FAILED else member.bests[-1])
    known = [value for some in values.values() for value in some if math.isfinite(value)]
    if not known:
        return dict.fromkeys(families, 1 / len(families))
    worst = math.nextafter(max(known), math.inf)  # what failed or diverged is worse than all that did not
    draws = np.random.default_rng(rng.getrandbits(64))
    levels_FD = []
    for family in families:
        own_M = np.array([min(known), *(min(value, worst) for value in values[family])])
        drawn_DM = own_M[draws.integers(len(own_M), size=(_DRAWS, len(own_M)))]
        top = max(1, len(own_M) // 3)
        levels_FD.append(np.partition(drawn_DM, top - 1, axis=1)[:, :top].mean(axis=1))
    is_best_FD = np.equal(levels_FD, np.min(levels_FD, axis=0))
    wins_FD = is_best_FD / is_best_FD.sum(axis=0)  # of equals each has a part, whichever the file names first
    return dict(zip(families, wins_FD.mean(axis=1).tolist(), strict=True))
