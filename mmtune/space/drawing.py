"""Full assignments of a space, parameter by parameter, where they lie, and values at random. Standard library only."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from mmtune.space.domains import Categorical, Domain, same
from mmtune.space.positions import float_at, position_in, value_at
from mmtune.space.space import Space


def assign(space: Space, pick: Callable[[str, Domain, Any], Any]) -> dict[str, Any]:
    """A full assignment of what ``pick`` gives for each parameter that exists: (its name, its domain, upper end).

    The name is the key, '#' and the index of the alternative; the upper end, which ``at_most`` may have lowered, is
    None for a categorical.
    """
    params: dict[str, Any] = {}
    for key in space.order:
        if (found := space.existing(key, params)) is not None:
            index, domain = found
            params[key] = pick(f"{key}#{index}", domain, space.high(domain, params))
    return space.in_column_order(params)


def completed(space: Space, given: Mapping[str, Any]) -> dict[str, Any]:
    """A full assignment of what is given and, where that leaves something open, of first choices and lower ends."""

    def pick(name: str, domain: Domain, high: Any) -> Any:
        first = domain.choices[0] if isinstance(domain, Categorical) else domain.low
        return given.get(name.rpartition("#")[0], first)

    return assign(space, pick)


def place(space: Space, params: Mapping[str, Any]) -> dict[str, float]:
    """Where a full assignment lies: numbers from 0 to 1, categoricals by the index of their choice."""
    places: dict[str, float] = {}

    def pick(name: str, domain: Domain, high: Any) -> Any:
        value = params[name.rpartition("#")[0]]
        places[name] = _place(domain, high, value)
        return value

    assign(space, pick)
    return places


def _place(domain: Domain, high: Any, value: Any) -> float:
    if isinstance(domain, Categorical):
        return float(next(index for index, choice in enumerate(domain.choices) if same(choice, value)))
    return position_in(domain, high, value)


def draw(domain: Domain, high: Any, rng: random.Random) -> Any:
    """A value at random: uniform, or log-uniform, up to ``high``."""
    if isinstance(domain, Categorical):
        return rng.choice(domain.choices)
    if domain.is_int and not domain.log:
        return rng.randrange(int(domain.low), int(high) + 1, int(domain.step or 1))
    if domain.step is not None:
        steps = round((high - domain.low) / domain.step)
        return value_at(domain, high, rng.randint(0, steps) / steps if steps else 0.0)
    if domain.is_int:  # each end has a whole share
        wide = domain.__class__(low=domain.low - 0.5, high=high + 0.5, log=True)
        return int(min(max(round(float_at(wide, wide.high, rng.random())), domain.low), high))
    return float_at(domain, high, rng.random())
