"""Which family the next new trial is of, where the family is searched: each gets what it is worth of the budget.

Families take turns: next is the one that has had least of its share, counted in what the budget is. Of a budget of
hours these are device-seconds: as many trials of each would spend nearly everything on the dearest, of which an epoch
may cost a hundred of another's. Of a budget of trials they are trials: what they cost is not what is short. A part is
shared evenly, so that each family is tried in earnest and the comparison stays fair; the rest goes by Thompson sampling
(Thompson 1933): the probability that a family's best third is the best.

Prices are rounded, since readings of a clock differ from run to run: the same reports then give the same turns, unless
a family's price lies near an edge. No clock, no disk here; randomness comes from the caller.

F: families, D: draws, M: members of a family.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Mapping, Sequence

import numpy as np

from mmtune.search.board import Families, Family, in_step, in_steps
from mmtune.search.rungs import Member

_DRAWS = 32
_last = threading.local()  # the families of the last proposal


def next_family(
    families: Sequence[str], *, known: Mapping[str, Family], rng: random.Random, even_share: float, by_cost: bool
) -> str:
    """The family that has had least of its share, of equals one drawn at random.

    Args:
        families: those that are searched.
        known: the trials so far, as :func:`families_of` has them.
        rng: all randomness comes from here.
        even_share: how much is shared out evenly; 1 leaves nothing to what families promise.
        by_cost: shares are of device-seconds, not of trials.
    """
    own = {family: known.get(family, Family()) for family in families}
    spent = _spent(own) if by_cost else {family: float(len(trials)) for family, trials in own.items()}
    shares = {family: even_share / len(families) for family in families}
    if even_share < 1:
        for family, chance in _chances(own, rng).items():
            shares[family] += (1 - even_share) * chance
    had = {family: spent[family] / share if (share := shares[family]) else math.inf for family in families}
    least = min(had.values())
    return rng.choice([family for family in families if had[family] == least])


def families_of(members: Sequence[Member]) -> dict[str, Family]:
    """Members by family. What was made of the last ones is kept: mostly they are the last ones but for a few."""
    known: Families | None = getattr(_last, "families", None)
    if known is None:
        known = _last.families = Families()
    known.show(members)
    return known.families


def _spent(families: Mapping[str, Family]) -> dict[str, float]:
    """Epochs of each family, what is promised included, times their price as a multiple of the cheapest family's.

    A member's own price counts where it is far from its family's: a fine-tuned encoder's beside a locked one's.
    """
    multiples = in_steps({name: usual for name, family in families.items() if (usual := family.prices.usual)})
    spent = {}
    for name, family in families.items():
        beyond = ((in_step(price) - 1) * family[number].promised for number, price in family.prices.odd())
        spent[name] = multiples.get(name, 1.0) * math.fsum((family.promised, *beyond))
    return spent


def _chances(families: Mapping[str, Family], rng: random.Random) -> dict[str, float]:
    """How probable it is of each family that its best third is the best, the mean over it.

    What a family may hold is drawn from a Dirichlet process (Ferguson 1973) whose base are the values of all families,
    with the weight of one trial: a draw takes one value more than the family has, each from its own or, as one among
    them, from all. So the fewer trials a family has, the more it may still be like the others.
    """
    values = [np.array(family.values()) for family in families.values()]
    known = np.concatenate([some[np.isfinite(some)] for some in values])
    if not known.size:
        return dict.fromkeys(families, 1 / len(families))
    worst = np.nextafter(known.max(), np.inf)  # what failed or diverged is worse than all that did not
    draws = np.random.default_rng(rng.getrandbits(64))
    levels_FD = []
    for some in values:
        own_M = np.append(np.minimum(some, worst), np.nan)
        drawn_DM = own_M[draws.integers(len(own_M), size=(_DRAWS, len(own_M)))]
        is_other_DM = np.isnan(drawn_DM)
        drawn_DM[is_other_DM] = draws.choice(known, size=is_other_DM.sum())
        top = max(1, len(own_M) // 3)
        levels_FD.append(np.partition(drawn_DM, top - 1, axis=1)[:, :top].mean(axis=1))
    is_best_FD = np.equal(levels_FD, np.min(levels_FD, axis=0))
    wins_FD = is_best_FD / is_best_FD.sum(axis=0)  # of equals each has a part, whichever the file names first
    return dict(zip(families, wins_FD.mean(axis=1).tolist(), strict=True))
