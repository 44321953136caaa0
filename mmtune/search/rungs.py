"""A trial as the schedule sees it, and the rules of a study's rungs."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from mmtune import records


@dataclass(frozen=True)
class Member:
    """A trial as the schedule sees it."""

    number: int
    family: str
    state: str
    until: int
    """The epoch that it may train to, or has trained to: its rung."""
    bests: tuple[float, ...] = ()
    """The best value up to each epoch reported, smaller is better."""
    seconds: float | None = None
    """Device-seconds of one of its epochs; None before the first."""
    params: Mapping[str, Any] = field(default_factory=dict)
    points: tuple[tuple[float, ...], ...] = ()
    """With several objectives, all of them as they were up to each epoch reported, smaller is better."""
    kept: dict[str, Mapping[str, float]] = field(default_factory=dict, compare=False, repr=False)
    """What a sampler has worked out from its params, which stay as they are."""

    @property
    def epoch(self) -> int:
        """The last one reported, 0 before any."""
        return len(self.bests)

    @property
    def promised(self) -> int:
        """The last epoch that it has trained or may train to, whichever is later; of one that is over the former."""
        return self.epoch if self.state in records.ENDED else max(self.until, self.epoch)

    def value_at(self, rungs: Sequence[int], index: int) -> float | None:
        """What it is ranked by on a rung; None if it does not stand there.

        A trial that ended by itself before a rung stands there with its best value; one that failed stands as the worst
        on the next rung that it would have reached.
        """
        rung = rungs[index]
        if self.state == records.INFEASIBLE:
            return None
        if self.epoch >= rung:
            return self.bests[rung - 1]
        if self.state == records.COMPLETE and self.bests:
            return self.bests[-1]
        is_next = index == 0 or self.epoch >= rungs[index - 1]
        return math.inf if self.state == records.FAILED and is_next else None


@dataclass(frozen=True)
class Rules:
    """What does not change within a study."""

    rungs: tuple[int, ...]
    """The last is a whole trial."""
    eta: int = 3
    """One in so many goes on from a rung."""
    brackets: int = 1
    """Ladders, each of which begins one rung later than the one before."""

    def bracket_of(self, number: int) -> int:
        """The ladder that a configuration climbs, drawn by its number as Hyperband shares them out (Li et al. 2018,
        Algorithm 1): of B brackets the one that skips s rungs has a weight of B / (B - s) eta^(B - 1 - s)."""
        return _bracket(number, self.brackets, self.eta)

    def first_rung(self, number: int) -> int:
        """The epoch that a new configuration trains to."""
        return self.rungs[self.bracket_of(number)]

    def from_bracket(self, bracket: int) -> Rules:
        """Those of one of its ladders."""
        return Rules(self.rungs[bracket:], self.eta)


@lru_cache(maxsize=100_000)  # each decision asks it of every trial
def _bracket(number: int, brackets: int, eta: int) -> int:
    if brackets == 1:
        return 0
    left = [brackets - skipped for skipped in range(brackets)]
    weights = [brackets / rest * eta ** (rest - 1) for rest in left]
    return random.Random(f"bracket {number}").choices(range(brackets), weights)[0]
