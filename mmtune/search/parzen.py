"""The default sampler: at random, and near what did best on the highest rung that enough trials have come to.

A pair of Parzen estimators as in TPE (Bergstra et al. 2011) and BOHB (Falkner et al. 2018): a mixture of kernels over
the better trials and one over the rest; of some candidates around the better ones that with the largest ratio of the
two is proposed. While the highest rung lies early, each parameter is looked at by itself, as in TPE: few trials tell
little of more. On rungs from a third of the epochs on they are looked at together. A family learns from its own trials:
the one whose turn it is (:mod:`mmtune.search.turns`).

What is drawn at random follows a ``prior`` and other studies, where there are any, as far as trials bear them out
(:mod:`.belief`).

Where trials were infeasible (out of memory, beyond a constraint), a mixture over these and one over the others, with a
uniform kernel beside them, say how likely a point is feasible (Gelbart et al. 2014 weight so; here from densities). A
random proposal is taken with that probability, and the ratio is weighted by it.

C: candidates.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mmtune import records
from mmtune.search.belief import drawer
from mmtune.search.kernels import Kernels, Marginals, place_of
from mmtune.search.lessons import Lesson
from mmtune.search.promotion import standings
from mmtune.search.rungs import Member
from mmtune.search.turns import families_of, next_family
from mmtune.space.domains import Categorical
from mmtune.space.drawing import assign, place
from mmtune.space.space import Space

_GOOD_SHARE, _LEAST_GOOD = 0.25, 4
_CANDIDATES, _FEW_CANDIDATES = 32, 8  # of all parameters together; of each by itself, where the ratio is less sure
_EARLY, _LATE = 9, 3  # rungs up to a ninth of a trial teach nothing; those from a third on (less an epoch) are late
_TRIES = 20  # random proposals, of which the last is taken whatever is thought of it


def propose(
    space: Space,
    *,
    members: Sequence[Member],
    rungs: Sequence[int],
    rng: random.Random,
    random_share: float,
    even_share: float,
    by_cost: bool,
    lessons: Sequence[Lesson] = (),
) -> dict[str, Any]:
    """The params of a new trial.

    Args:
        space: what is searched.
        members: the trials so far, params included.
        rungs: of the ladder, the last a whole trial.
        rng: all randomness comes from here.
        random_share: of proposals that ignore the members of their family.
        even_share: how much of the budget families share evenly where the family is searched.
        by_cost: they share device-seconds, not trials.
        lessons: trials of other studies.
    """
    families = [domain for domain in space.domains.get("family", ()) if isinstance(domain, Categorical)]
    choices = [str(choice) for choice in families[0].choices] if families else []
    family, pinned, own = None, {}, members
    if choices:
        known = families_of(members)
        family = next_family(choices, known=known, rng=rng, even_share=even_share, by_cost=by_cost)
        pinned, own = {"family#0": family}, known[family].by_number()
    pair = None if rng.random() < random_share else _pair(own, rungs)
    feasibility = _feasibility(space, own)
    if pair is None:
        for _ in range(_TRIES):
            pick = drawer(space, members=own, rungs=rungs, rng=rng, lessons=lessons, family=family)
            params = assign(space, lambda name, domain, high, pick=pick: pinned.get(name) or pick(name, domain, high))
            if feasibility is None or rng.random() < feasibility([place(space, params)])[0]:
                break
        return params
    is_late, *parts = pair
    good, bad = ((Kernels if is_late else Marginals)(space, _places(space, part)) for part in parts)
    candidates = [good.draw(rng, pinned) for _ in range(_CANDIDATES if is_late else _FEW_CANDIDATES)]
    placed = [place(space, candidate) for candidate in candidates]
    scores = good.log_density(placed) - bad.log_density(placed)
    if feasibility is not None:
        scores = scores + np.log(feasibility(placed))
    return candidates[int(np.argmax(scores))]


def _feasibility(
    space: Space, members: Sequence[Member]
) -> Callable[[Sequence[Mapping[str, float]]], np.ndarray] | None:
    """From the places of points (C) how likely each is feasible, (C,); None where all members were."""
    out = [member for member in members if member.state == records.INFEASIBLE]
    if not out:
        return None
    inside = [member for member in members if member.bests and member.state != records.INFEASIBLE]
    kernels = Kernels(space, _places(space, out)), Kernels(space, _places(space, inside), has_uniform=True)

    def probability(placed: Sequence[Mapping[str, float]]) -> np.ndarray:
        beyond, within = (math.log(part.size) + part.log_density(placed) for part in kernels)
        return 1 / (1 + np.exp(np.clip(beyond - within, -500, 500)))

    return probability


def _places(space: Space, members: Sequence[Member]) -> list[Mapping[str, float]]:
    return [place_of(space, member) for member in members]


def _pair(members: Sequence[Member], rungs: Sequence[int]) -> tuple[bool, list[Member], list[Member]] | None:
    """Of the highest rung on which enough members stand: whether it is late, the better, and the rest; or None."""
    for index in reversed(range(len(rungs))):
        if rungs[index] <= rungs[-1] / _EARLY:
            return None
        ranked = [(value, member) for value, _, member in standings(members, rungs, index)]
        num_params = max((len(member.params) for _, member in ranked), default=0)
        if sum(math.isfinite(value) for value, _ in ranked) >= num_params + 2:
            num_good = max(_LEAST_GOOD, int(_GOOD_SHARE * len(ranked)))
            if num_good < len(ranked):
                inside = [member for _, member in ranked]
                return rungs[index] >= rungs[-1] / _LATE - 1, inside[:num_good], inside[num_good:]
    return None
