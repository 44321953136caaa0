"""Beliefs: the ``prior`` of a parameter, what other studies found, and how far proposals follow each as trials tell.

As PriorBand does (Mallik et al. 2023, NeurIPS), a proposal that knows nothing of the members is drawn from a belief or
uniformly; at first one as often as the other. Then evidence decides: of the trials that came to the first rung, how
many of the belief's are in the best third, against how many of the uniform ones. A trial counts for each, in proportion
to the densities that they have where it lies, so that nothing has to be remembered of how it was drawn.

A number's prior is a normal distribution around ``mode``, cut off at the ends of its range, on its logarithm where it
is searched by that; a categorical's are weights. Parameters without one are uniform in both. Each study of
``learn_from`` is a belief of its own: a mixture of kernels over the best quarter of its trials by rank, so that no
value of other data counts, and a uniform one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import log
from statistics import NormalDist
from typing import Any

from mmtune.search.kernels import Kernels, place_of
from mmtune.search.lessons import Lesson
from mmtune.search.promotion import standings
from mmtune.search.rungs import Member
from mmtune.space.domains import Categorical, Domain, Number, same
from mmtune.space.drawing import assign, draw
from mmtune.space.positions import position_in, value_at
from mmtune.space.space import Space

_BEST = 3  # one in so many counts as a success
_LARGEST = 1e300  # of a density, so that some can be added up
Pick = Callable[[str, Domain, Any], Any]


@dataclass(frozen=True)
class Belief:
    """A distribution over a space that proposals may follow."""

    name: str
    density: Callable[[Member], float]
    """Where a member lies, as a multiple of the uniform one's."""
    pick: Callable[[random.Random], Pick]
    """What draws each parameter of one proposal."""


def has_prior(space: Space) -> bool:
    """Whether anything is believed of a parameter."""
    return any(domain.prior is not None for _, _, domain in space.alternatives())


def drawer(
    space: Space,
    *,
    members: Sequence[Member],
    rungs: Sequence[int],
    rng: random.Random,
    lessons: Sequence[Lesson] = (),
    family: str | None = None,
) -> Pick:
    """What draws each parameter of one proposal: at random, or where there are beliefs perhaps from one of these.

    Args:
        space: what is searched.
        members: the trials so far, of the family that is proposed.
        rungs: of the ladder.
        rng: all randomness comes from here.
        lessons: trials of other studies.
        family: the one that is proposed, where families are searched and it is chosen already.
    """
    beliefs = beliefs_of(space, lessons, family=family)
    if beliefs:
        left = rng.random()
        for belief, share in zip(beliefs, trust(beliefs, members, rungs), strict=True):
            if left < share:
                return belief.pick(rng)
            left -= share
    return lambda name, domain, high: draw(domain, high, rng)


def beliefs_of(space: Space, lessons: Sequence[Lesson] = (), *, family: str | None = None) -> list[Belief]:
    """The prior, if there is one, and each study that taught something; arguments as :func:`drawer` has them."""
    found = []
    if has_prior(space):
        found.append(
            Belief(
                "prior",
                lambda member: density(space, member.params),
                lambda rng: lambda name, domain, high: _believed(domain, high, rng),
            )
        )
    studies: dict[str, list[Mapping[str, float]]] = {}
    for lesson in lessons:
        if lesson.is_good and family in (None, lesson.family):
            known = {name: at for name, at in lesson.place.items() if family is None or name != "family#0"}
            studies.setdefault(lesson.study, []).append(known)
    for study, places in studies.items():
        kernels = Kernels(space, places, has_uniform=True)
        found.append(
            Belief(
                f"study {study}",
                lambda member, kernels=kernels: kernels.density(place_of(space, member)),
                kernels.picker,
            )
        )
    return found


def trust(beliefs: Sequence[Belief], members: Sequence[Member], rungs: Sequence[int]) -> list[float]:
    """How often a proposal follows each belief, from 0 to 1; as often as what is uniform while nothing is known."""
    ranked = [member for _, _, member in standings(members, rungs, 0)]
    num_best = len(ranked) // _BEST
    owed = [[0.0] * len(ranked) for _ in range(len(beliefs) + 1)]  # by member; the last is what is uniform
    for at, member in enumerate(ranked):
        densities = [*(_density_of(belief, member) for belief in beliefs), 1.0]
        total = sum(densities)
        for row, part in zip(owed, densities, strict=True):
            row[at] = part / total
    rates = [(sum(row[:num_best]) + 1) / (sum(row) + _BEST) for row in owed]
    return [rate / sum(rates) for rate in rates[:-1]]


def density(space: Space, params: Mapping[str, Any]) -> float:
    """The prior's density at a full assignment, as a multiple of the uniform one's."""
    found = 1.0

    def look(name: str, domain: Domain, high: Any) -> Any:
        nonlocal found
        value = params[name.rpartition("#")[0]]
        if isinstance(domain, Categorical):
            if domain.prior is not None:
                at = next(index for index, choice in enumerate(domain.choices) if same(choice, value))
                found *= domain.prior[at] * len(domain.choices) / sum(domain.prior)
        elif domain.prior is not None and high > domain.low:
            normal, inside = _normal(domain, high)
            found *= normal.pdf(position_in(domain, high, value)) / inside
        return value

    assign(space, look)
    return min(found, _LARGEST)


def _density_of(belief: Belief, member: Member) -> float:
    known = member.kept.get("belief", {})
    if belief.name not in known:
        member.kept["belief"] = known = {**known, belief.name: belief.density(member)}
    return known[belief.name]


def _believed(domain: Domain, high: Any, rng: random.Random) -> Any:
    """A value drawn from the domain's prior, or as ever where it has none."""
    if domain.prior is None or (isinstance(domain, Number) and high <= domain.low):
        return draw(domain, high, rng)
    if isinstance(domain, Categorical):
        return rng.choices(domain.choices, domain.prior)[0]
    normal, inside = _normal(domain, high)
    share = min(max(normal.cdf(0) + rng.random() * inside, 1e-12), 1 - 1e-12)
    return value_at(domain, high, min(max(normal.inv_cdf(share), 0.0), 1.0))


def _normal(domain: Number, high: float) -> tuple[NormalDist, float]:
    """The prior in positions from 0 to 1, and how much of it lies there."""
    assert domain.prior is not None
    mode, width = domain.prior
    at = position_in(domain, high, min(mode, high))
    wide = log(width) / log(high / domain.low) if domain.log else width / (high - domain.low)
    normal = NormalDist(at, wide)
    return normal, normal.cdf(1) - normal.cdf(0)
