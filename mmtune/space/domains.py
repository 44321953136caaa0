"""Domains: what one parameter of a search space can be. Standard library only."""

from __future__ import annotations

import math
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
    prior: tuple[float, float] | None = None  # what is believed: mode and width, a factor if it is log

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
        if self.prior is not None:
            found += self._prior_problems(*self.prior)
        if self.step is None:
            return found
        if self.log:
            found.append(("step", "log and step exclude each other"))
        elif self.step <= 0:
            found.append(("step", f"{show(self.step)} must be above 0"))
        elif self.low <= self.high and math.isfinite(float(self.high) - float(self.low)):
            steps = (exact(self.high) - exact(self.low)) / exact(self.step)
            if steps.denominator != 1:
                ends = f"{show(self.low)} to {show(self.high)}"
                found.append(("step", f"{show(self.step)} does not divide the range from {ends}"))
            elif steps > _LARGEST_INT:
                found.append(("step", f"{show(self.step)} makes more than 2**53 steps"))
        if self.at_most is not None and not self.is_int:
            found.append(("step", "a float has either step or at_most"))
        return found

    def _prior_problems(self, mode: float, width: float) -> list[tuple[str, str]]:
        found, ends = [], f"{show(self.low)} to {show(self.high)}"
        if not self.low <= mode <= self.high:
            found.append(("prior", f"mode {show(mode)} is not in {ends}"))
        if self.log and not width > 1:
            found.append(("prior", f"width {show(width)} is a factor, as log is true; it must be above 1"))
        elif not self.log and not width > 0:
            found.append(("prior", f"width {show(width)} must be above 0"))
        return found


@dataclass(frozen=True)
class Categorical:
    """One of ``choices``: null, booleans, numbers, strings."""

    choices: tuple[Any, ...]
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    prior: tuple[float, ...] | None = None  # what is believed: a weight for each choice

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
        found = [("choices", f"{show(value)} {why}") for value in twice]
        if self.prior is not None and len(self.prior) != len(self.choices):
            found.append(("prior", f"has {len(self.prior)} weights for {len(self.choices)} choices"))
        elif self.prior is not None and not (min(self.prior) >= 0 and 0 < sum(self.prior) < math.inf):
            found.append(("prior", "weights are 0 or more, and not all 0"))
        return found


Domain = Number | Categorical


def same(a: Any, b: Any) -> bool:
    """Equal, and both or neither a bool: 1 is not true."""
    return isinstance(a, bool) == isinstance(b, bool) and a == b


def exact(value: float) -> Fraction:
    """The number as it is written."""
    return Fraction(str(value))  # 0.1 means 1/10, as in Optuna's own check
