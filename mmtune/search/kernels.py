"""Parzen estimators over places of a space: mixtures of product kernels, or of each parameter's own, to draw from and
to ask for densities.

Numbers lie from 0 to 1 in their range, by logarithm where the domain says so, up to where ``at_most`` cuts it; a
parameter that a place does not have counts as uniform there.

C: candidates, M: places, K: parameters.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from statistics import NormalDist
from typing import Any

import numpy as np

from mmtune.search.rungs import Member
from mmtune.space.domains import Categorical, Domain
from mmtune.space.drawing import assign, place
from mmtune.space.positions import value_at
from mmtune.space.space import Space

_WIDTHS = (0.05, 0.3)  # of a number's kernel, in its range
_LEAVE = 0.2  # how often a kernel leaves a place's choice


def place_of(space: Space, member: Member) -> Mapping[str, float]:
    """Where a member lies; worked out once."""
    if "place" not in member.kept:
        member.kept["place"] = place(space, member.params)
    return member.kept["place"]


class _Estimator:
    """Kernels at places, a number's and a choice's, and how they are drawn from."""

    def __init__(self, space: Space, places: Sequence[Mapping[str, float]], *, has_uniform: bool = False) -> None:
        self._space = space
        self._places = [*places, *([{}] if has_uniform else [])]
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
        self._widths = {
            name: float(np.clip(self._shrunk(column), *_WIDTHS))
            for name, column in self._columns.items()
            if name not in self._choices
        }

    def draw(self, rng: random.Random, pinned: Mapping[str, Any]) -> dict[str, Any]:
        """Params near a place drawn evenly, apart from what is pinned."""
        pick = self.picker(rng)
        return assign(
            self._space, lambda name, domain, high: pinned[name] if name in pinned else pick(name, domain, high)
        )

    def _near(self, near: Mapping[str, float], rng: random.Random, name: str, domain: Domain, high: Any) -> Any:
        """A parameter's value near a place; anywhere if the place does not have it."""
        at = near.get(name)
        if isinstance(domain, Categorical):
            if at is None or rng.random() < _LEAVE:
                return rng.choice(domain.choices)
            return domain.choices[int(at)]
        position = -1.0 if at is None else rng.gauss(at, self._widths[name])
        if not 0 <= position <= 1:
            position = rng.random()
        return value_at(domain, high, position)

    def _densities(self, name: str, at_C: np.ndarray) -> tuple[np.ndarray, float]:
        """Of each place's kernel of a parameter, (C, M), NaN where either has none; and the uniform density."""
        column_M = self._columns[name]
        if name in self._choices:
            count = self._choices[name]
            stays = 1 - _LEAVE + _LEAVE / count
            return np.where(at_C[:, None] == column_M[None], stays, _LEAVE / count), 1 / count
        width = self._widths[name]
        z_CM = (at_C[:, None] - column_M[None]) / width
        return np.exp(-0.5 * z_CM**2) / (width * math.sqrt(2 * math.pi)), 1.0

    def picker(self, rng: random.Random) -> Callable[[str, Domain, Any], Any]:
        """What draws each parameter of one full assignment."""
        raise NotImplementedError

    def _shrunk(self, column: np.ndarray) -> float:
        """How wide the kernels of a parameter are, before limits."""
        raise NotImplementedError


class Kernels(_Estimator):
    """A mixture with one product kernel a place, and a uniform one beside them if asked for."""

    def _shrunk(self, column: np.ndarray) -> float:
        """By Scott's rule, in as many dimensions as there are parameters."""
        return _deviation(column) * len(self._places) ** (-1 / (len(self._columns) + 4))

    @cached_property
    def _leaks(self) -> dict[str, np.ndarray]:
        """How much of each kernel lies beyond the range, (M,), by number."""
        found = {}
        for name, width in self._widths.items():
            normal = NormalDist(0, width)
            ends = [0.0 if math.isnan(at) else normal.cdf(-at) + normal.cdf(at - 1) for at in self._columns[name]]
            found[name] = np.array(ends)
        return found

    def picker(self, rng: random.Random) -> Callable[[str, Domain, Any], Any]:
        """What draws each parameter of one full assignment, near a place drawn evenly."""
        near = rng.choice(self._places)
        return lambda name, domain, high: self._near(near, rng, name, domain, high)

    def density(self, at: Mapping[str, float]) -> float:
        """Of what :meth:`picker` draws, at a place; as a multiple of the uniform density."""
        choices = math.prod(count for name, count in self._choices.items() if name in at and name in self._columns)
        return choices * float(np.exp(self.log_density([at], with_leaks=True)[0]))

    def log_density(self, placed: Sequence[Mapping[str, float]], *, with_leaks: bool = False) -> np.ndarray:
        """Of each candidate, (C,); parameters without a place that has them count as uniform.

        Args:
            placed: where the candidates lie.
            with_leaks: whether what a kernel has beyond the ends of a range, and is drawn anew inside, counts there.
        """
        total_CM = np.zeros((len(placed), len(self._places)))
        for name, column_M in self._columns.items():
            at_C = np.array([places.get(name, math.nan) for places in placed])
            density_CM, without = self._densities(name, at_C)
            if with_leaks and name in self._widths:
                density_CM = density_CM + self._leaks[name]
            density_CM = np.where(np.isnan(column_M)[None], without, density_CM)
            total_CM += np.where(np.isnan(at_C)[:, None], 0.0, np.log(density_CM + 1e-300))
        top_C = total_CM.max(axis=1)
        return top_C + np.log(np.exp(total_CM - top_C[:, None]).mean(axis=1))


class Marginals(_Estimator):
    """A mixture for each parameter by itself, of one kernel a place that has it and a uniform one.

    It learns from fewer places than a mixture of products does, and knows nothing of what goes well together.
    """

    def _shrunk(self, column: np.ndarray) -> float:
        return _deviation(column) * int((~np.isnan(column)).sum()) ** (-1 / 5)

    @cached_property
    def _having(self) -> dict[str, list[Mapping[str, float]]]:
        """The places that have a parameter, by its name."""
        return {name: [places for places in self._places if name in places] for name in self._columns}

    def picker(self, rng: random.Random) -> Callable[[str, Domain, Any], Any]:
        """What draws each parameter of one full assignment, each near another place drawn evenly."""

        def pick(name: str, domain: Domain, high: Any) -> Any:
            return self._near(rng.choice(self._having[name]) if self._having.get(name) else {}, rng, name, domain, high)

        return pick

    def log_density(self, placed: Sequence[Mapping[str, float]]) -> np.ndarray:
        """Of each candidate as a multiple of the uniform density, (C,)."""
        total_C = np.zeros(len(placed))
        for name, column_M in self._columns.items():
            at_C = np.array([places.get(name, math.nan) for places in placed])
            density_CM, without = self._densities(name, at_C)
            has_M = ~np.isnan(column_M)
            mixture_C = (density_CM[:, has_M].sum(axis=1) / without + 1) / (has_M.sum() + 1)
            total_C += np.where(np.isnan(at_C), 0.0, np.log(mixture_C))
        return total_C


def _deviation(column: np.ndarray) -> float:
    known = column[~np.isnan(column)]
    return float(known.std()) if len(known) else 0.0
