"""The default sampler: at random, and near what did best on the highest rungs once enough trials have come there.

A pair of Parzen estimators as in TPE (Bergstra et al. 2011) and BOHB (Falkner et al. 2018): a mixture of kernels over
the better trials and one over the rest; of some candidates around the better ones that with the largest ratio of the
two is proposed. It differs from them in what it learns from: only the rungs in the last third of a trial, since the
ranks of early epochs mislead, and of one family at a time: whose turn it is (:mod:`mmtune.search.turns`).

What is drawn at random follows a ``prior``, where there is one, as far as trials bear it out (:mod:`.belief`).

Where trials were infeasible (out of memory, beyond a constraint), a mixture over these and one over the others, with a
uniform kernel beside them, say how likely a point is feasible (Gelbart et al. 2014 weight so; here from densities). A
random proposal is taken with that probability, and the ratio is weighted by it.

Numbers lie from 0 to 1 in their range, by logarithm where the domain says so, up to where ``at_most`` cuts it; a
parameter that a member does not have counts as uniform there.

C: candidates, M: members, K: parameters.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mmtune import records
from mmtune.search.belief import drawer
from mmtune.search.promotion import standings
from mmtune.search.rungs import Member
from mmtune.search.turns import next_family
from mmtune.space.domains import Categorical, Domain
from mmtune.space.drawing import assign, place
from mmtune.space.positions import value_at
from mmtune.space.space import Space

_GOOD_SHARE, _LEAST_GOOD = 0.25, 4
_CANDIDATES = 32
_WIDTHS = (0.05, 0.3)  # of a number's kernel, in its range
_TRIES = 20  # random proposals, of which the last is taken whatever is thought of it
_LEAVE = 0.2  # how often a kernel leaves a member's choice


def propose(
    space: Space,
    *,
    members: Sequence[Member],
    rungs: Sequence[int],
    rng: random.Random,
    random_share: float,
    even_share: float,
    by_cost: bool,
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
    """
    families = [domain for domain in space.domains.get("family", ()) if isinstance(domain, Categorical)]
    choices = [str(choice) for choice in families[0].choices] if families else []
    family = next_family(choices, members=members, rng=rng, even_share=even_share, by_cost=by_cost) if choices else None
    pinned = {} if family is None else {"family#0": family}
    own = [member for member in members if family is None or member.family == family]
    pair = None if rng.random() < random_share else _pair(own, rungs)
    feasibility = _feasibility(space, own)
    if pair is None:
        for _ in range(_TRIES):
            pick = drawer(space, members=own, rungs=rungs, rng=rng)
            params = assign(space, lambda name, domain, high, pick=pick: pinned.get(name) or pick(name, domain, high))
            if feasibility is None or rng.random() < feasibility([place(space, params)])[0]:
                break
        return params
    good, bad = (_Kernels(space, part) for part in pair)
    candidates = [good.draw(rng, pinned) for _ in range(_CANDIDATES)]
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
    kernels = _Kernels(space, out), _Kernels(space, inside, has_uniform=True)

    def probability(placed: Sequence[Mapping[str, float]]) -> np.ndarray:
        beyond, within = (math.log(part.size) + part.log_density(placed) for part in kernels)
        return 1 / (1 + np.exp(np.clip(beyond - within, -500, 500)))

    return probability


def _place_of(space: Space, member: Member) -> Mapping[str, float]:
    if "place" not in member.kept:
        member.kept["place"] = place(space, member.params)
    return member.kept["place"]


def _pair(members: Sequence[Member], rungs: Sequence[int]) -> tuple[list[Member], list[Member]] | None:
    """The better and the rest of the highest late rung on which enough members stand; None if there is none."""
    for index in reversed(range(len(rungs))):
        if rungs[index] < rungs[-1] / 3 - 1:
            return None
        ranked = [(value, member) for value, _, member in standings(members, rungs, index)]
        num_params = max((len(member.params) for _, member in ranked), default=0)
        if sum(math.isfinite(value) for value, _ in ranked) >= num_params + 2:
            num_good = max(_LEAST_GOOD, int(_GOOD_SHARE * len(ranked)))
            if num_good < len(ranked):
                inside = [member for _, member in ranked]
                return inside[:num_good], inside[num_good:]
    return None


class _Kernels:
    """A mixture with one product kernel a member, and a uniform one beside them if asked for."""

    def __init__(self, space: Space, members: Sequence[Member], *, has_uniform: bool = False) -> None:
        self._space = space
        self._places = [_place_of(space, member) for member in members] + ([{}] if has_uniform else [])
        self.size = len(self._places)
        names = dict.fromkeys(name for places in self._places for name in places)
        names |= dict.fromkeys(f"{key}#{at}" for key, at, _ in space.alternatives()) if has_uniform else {}
        self._columns = {name: np.array([places.get(name, math.nan) for places in self._places]) for name in names}
        self._choices = {
            f"{key}#{index}": len(domain.choices)
            for key, alternatives in space.domains.items()
            for index, domain in enumerate(alternatives)
            if isinstance(domain, Categorical)
        }
        shrink = len(self._places) ** (-1 / (len(names) + 4))
        self._widths = {
            name: float(np.clip(_deviation(column) * shrink, *_WIDTHS))
            for name, column in self._columns.items()
            if name not in self._choices
        }

    def draw(self, rng: random.Random, pinned: Mapping[str, Any]) -> dict[str, Any]:
        """Params near a member drawn evenly, apart from what is pinned."""
        near = rng.choice(self._places)

        def pick(name: str, domain: Domain, high: Any) -> Any:
            if name in pinned:
                return pinned[name]
            at = near.get(name)
            if isinstance(domain, Categorical):
                if at is None or rng.random() < _LEAVE:
                    return rng.choice(domain.choices)
                return domain.choices[int(at)]
            position = -1.0 if at is None else rng.gauss(at, self._widths[name])
            if not 0 <= position <= 1:
                position = rng.random()
            return value_at(domain, high, position)

        return assign(self._space, pick)

    def log_density(self, placed: Sequence[Mapping[str, float]]) -> np.ndarray:
        """Of each candidate, (C,); parameters without a member that has them count as uniform."""
        total_CM = np.zeros((len(placed), len(self._places)))
        for name, column_M in self._columns.items():
            at_C = np.array([places.get(name, math.nan) for places in placed])
            if name in self._choices:
                count = self._choices[name]
                stays = 1 - _LEAVE + _LEAVE / count
                density_CM = np.where(at_C[:, None] == column_M[None], stays, _LEAVE / count)
                without = 1 / count
            else:
                width = self._widths[name]
                z_CM = (at_C[:, None] - column_M[None]) / width
                density_CM = np.exp(-0.5 * z_CM**2) / (width * math.sqrt(2 * math.pi))
                without = 1.0
            density_CM = np.where(np.isnan(column_M)[None], without, density_CM)
            total_CM += np.where(np.isnan(at_C)[:, None], 0.0, np.log(density_CM + 1e-300))
        top_C = total_CM.max(axis=1)
        return top_C + np.log(np.exp(total_CM - top_C[:, None]).mean(axis=1))


def _deviation(column: np.ndarray) -> float:
    known = column[~np.isnan(column)]
    return float(known.std()) if len(known) else 0.0
