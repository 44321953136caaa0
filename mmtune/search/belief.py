"""Beliefs: the ``prior`` of a parameter, and how far proposals follow it as trials tell whether it is right.

As PriorBand does (Mallik et al. 2023, NeurIPS), a proposal that knows nothing of the members is drawn from the prior or
uniformly; at first one as often as the other. Then evidence decides: of the trials that came to the first rung, how
many of the prior's are in the best third, against how many of the uniform ones. A trial counts for both, in proportion
to the densities that the two have where it lies, so that nothing has to be remembered of how it was drawn.

A number's prior is a normal distribution around ``mode``, cut off at the ends of its range, on its logarithm where it
is searched by that; a categorical's are weights. Parameters without one are uniform in both.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from math import log
from statistics import NormalDist
from typing import Any

from mmtune.search.promotion import standings
from mmtune.search.rungs import Member
from mmtune.space.domains import Categorical, Domain, Number, same
from mmtune.space.drawing import assign, draw
from mmtune.space.positions import position_in, value_at
from mmtune.space.space import Space

_BEST = 3  # one in so many counts as a success


def has_prior(space: Space) -> bool:
    """Whether anything is believed of a parameter."""
    return any(domain.prior is not None for _, _, domain in space.alternatives())


def drawer(
    space: Space, *, members: Sequence[Member], rungs: Sequence[int], rng: random.Random
) -> Callable[[str, Domain, Any], Any]:
    """What draws each parameter of one proposal: at random, or where there are priors perhaps from these.

    Args:
        space: what is searched.
        members: the trials so far, of the family that is proposed.
        rungs: of the ladder.
        rng: all randomness comes from here.
    """
    if not has_prior(space) or rng.random() >= trust(space, members, rungs):
        return lambda name, domain, high: draw(domain, high, rng)
    return lambda name, domain, high: _believed(domain, high, rng)


def trust(space: Space, members: Sequence[Member], rungs: Sequence[int]) -> float:
    """How often a proposal follows the prior, from 0 to 1: a half while nothing is known."""
    ranked = [member for _, _, member in standings(members, rungs, 0)]
    from_prior = [1 - 1 / (1 + _density_of(space, member)) for member in ranked]
    best = from_prior[: len(ranked) // _BEST]
    prior = (sum(best) + 1) / (sum(from_prior) + _BEST)
    uniform = (len(best) - sum(best) + 1) / (len(ranked) - sum(from_prior) + _BEST)
    return prior / (prior + uniform)


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
    return found


def _density_of(space: Space, member: Member) -> float:
    if "belief" not in member.kept:
        member.kept["belief"] = {"density": density(space, member.params)}
    return member.kept["belief"]["density"]


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
