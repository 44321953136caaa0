"""Domains: what one parameter of a search space can be, and how a value is drawn from it. Standard library only."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from trainables.messages import show

_LARGEST_INT = 2**53  # beyond it Optuna's float representation loses whole numbers
_MOST_CHOICES = 1000  # each is tried in a config when a file is checked; samplers learn nothing from more


@dataclass(frozen=True)
class Number:
    """A float or int from ``low`` to ``high``, both included."""

    low: float
    high: float
    is_int: bool = False
    log: bool = False
    step: float | None = None
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    at_most: str | None = None  # key of a searched number

    def problems(self) -> list[tuple[str, str]]:
        """What is wrong with the domain in itself, as (field, message)."""
        found = []
        for name, value in (("low", self.low), ("high", self.high), ("step", self.step or 0)):
            if self.is_int and abs(value) > _LARGEST_INT:
                found.append((name, f"{show(value)} is too large, at most 2**53"))
        if found:
            return found
        if self.low > self.high:
            found.append(("low", f"{show(self.low)} is above high ({show(self.high)})"))
        elif not math.isfinite(float(self.high) - float(self.low)):
            found.append(("high", "the range from low to high is too wide for a float"))
        smallest = 1 if self.is_int else 0
        if self.log and (self.low < 1 if self.is_int else self.low <= 0):
            above = "at least 1" if smallest else "above 0"
            found.append(("low", f"{show(self.low)} has no logarithm to search on; with log: true low must be {above}"))
        if self.step is None:
            return found
        if self.log:
            found.append(("step", "log and step exclude each other"))
        elif self.step <= 0:
            found.append(("step", f"{show(self.step)} must be above 0"))
        elif self.low <= self.high and math.isfinite(float(self.high) - float(self.low)):
            steps = (_exact(self.high) - _exact(self.low)) / _exact(self.step)
            if steps.denominator != 1:
                ends = f"{show(self.low)} to {show(self.high)}"
                found.append(("step", f"{show(self.step)} does not divide the range from {ends}"))
            elif steps > _LARGEST_INT:
                found.append(("step", f"{show(self.step)} makes more than 2**53 steps"))
        if self.at_most is not None and not self.is_int:
            found.append(("step", "a float has either step or at_most"))
        return found


@dataclass(frozen=True)
class Categorical:
    """One of ``choices``: null, booleans, numbers, strings."""

    choices: tuple[Any, ...]
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def problems(self) -> list[tuple[str, str]]:
        """What is wrong with the domain in itself, as (field, message)."""
        if not self.choices:
            return [("choices", "is empty")]
        if len(self.choices) > _MOST_CHOICES:
            how = "search numbers by type: int or float, with a step if need be"
            return [("choices", f"has {len(self.choices)} values, at most {_MOST_CHOICES}; {how}")]
        seen: set[Any] = set()
        twice = [value for value in self.choices if value in seen or seen.add(value)]
        why = "occurs twice (Optuna compares 1, 1.0 and true as equal)"
        return [("choices", f"{show(value)} {why}") for value in twice]


Domain = Number | Categorical


def same(a: Any, b: Any) -> bool:
    """Equal, and both or neither a bool: 1 is not true."""
    return isinstance(a, bool) == isinstance(b, bool) and a == b


def suggest_value(trial: Any, name: str, domain: Domain, high: Any) -> Any:
    """A value from Optuna's ``trial`` under ``name``.

    Args:
        high: the upper end as ``at_most`` leaves it; None for a categorical.
    """
    if isinstance(domain, Categorical):
        return trial.suggest_categorical(name, domain.choices)
    if domain.is_int:
        return trial.suggest_int(name, domain.low, high, log=domain.log, step=int(domain.step or 1))
    if domain.at_most is not None:
        return _at_position(domain, high, trial.suggest_float(name, 0.0, 1.0))
    return trial.suggest_float(name, domain.low, high, log=domain.log, step=domain.step)


def position_in(domain: Number, high: float, value: float) -> float:
    """Where ``value`` lies from low (0) to ``high`` (1), as :func:`suggest_value` asks Optuna for it, to rounding."""
    if value <= domain.low or high <= domain.low:
        return 0.0
    if domain.log:
        position = (math.log(value) - math.log(domain.low)) / (math.log(high) - math.log(domain.low))
    else:
        position = (value - domain.low) / (high - domain.low)
    near = (position, math.nextafter(position, 0), math.nextafter(position, 1))
    exact = [p for p in near if _at_position(domain, high, min(p, 1.0)) == value]
    return min((exact or [position])[0], 1.0)


def draw_value(domain: Domain, high: Any, rng: random.Random) -> Any:
    """A value drawn at random: uniform, or log-uniform, up to ``high``."""
    if isinstance(domain, Categorical):
        return rng.choice(domain.choices)
    low = domain.low
    if domain.is_int:
        if not domain.log:
            return rng.randrange(int(low), int(high) + 1, int(domain.step or 1))
        value = round(math.exp(rng.uniform(math.log(low - 0.5), math.log(high + 0.5))))
        return int(min(max(value, low), high))
    if domain.step is not None:
        steps = int((_exact(high) - _exact(low)) / _exact(domain.step))
        return float(_exact(low) + rng.randint(0, steps) * _exact(domain.step))
    if domain.log:
        return float(min(max(math.exp(rng.uniform(math.log(low), math.log(high))), low), high))
    return float(min(max(rng.uniform(low, high), low), high))


def _at_position(domain: Number, high: float, position: float) -> float:
    """The float that lies ``position`` (0 to 1) of the way from low to ``high``, by logarithm where log is set."""
    if position in (0, 1):
        return float(high if position else domain.low)
    if domain.log:
        value = math.exp(math.log(domain.low) + position * (math.log(high) - math.log(domain.low)))
    else:
        value = domain.low + position * (high - domain.low)
    return float(min(max(value, domain.low), high))


def _exact(value: float) -> Fraction:
    return Fraction(str(value))  # 0.1 means 1/10, as in Optuna's own check
