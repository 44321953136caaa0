"""Search spaces: which domains exist under which conditions. Standard library only.

A space maps flat keys to domains; *params* are one assignment, ``{"optim.lr": 3e-5, "uda.mode": "none"}``, without
a key that does not exist under it. A domain exists when its ``when`` holds: every key named there exists and has
one of the listed values. ``at_most`` lowers the upper end to the value of another parameter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from mmtune.space.domains import Categorical, Domain, Number, same


@dataclass(frozen=True)
class Space:
    """Flat keys and their domains; several domains of one key are alternatives, never true at once.

    Build it, then look at :func:`mmtune.space.problems.problems_of`: the rest is defined only for a space without any.

    Args:
        domains: key -> alternatives, in column order.
        constants: what conditions may also test: fixed values, family and dataset when not searched.
    """

    domains: Mapping[str, tuple[Domain, ...]]
    constants: Mapping[str, Any] = field(default_factory=dict)

    @property
    def keys(self) -> tuple[str, ...]:
        """The parameters in column order."""
        return tuple(self.domains)

    @cached_property
    def order(self) -> tuple[str, ...]:
        """The keys in sampling order: what a domain depends on first, else as in the file."""
        order, _ = self._sorted
        return order

    @property
    def cycle(self) -> tuple[str, ...]:
        """Keys whose conditions go round in a circle; empty when there is none."""
        _, cycle = self._sorted
        return cycle

    def alternatives(self) -> Iterator[tuple[str, int, Domain]]:
        """Every domain with its key, and its index among the key's."""
        for key, alternatives in self.domains.items():
            for index, domain in enumerate(alternatives):
                yield key, index, domain

    def holds(self, domain: Domain, params: Mapping[str, Any]) -> bool:
        """Whether the conditions of ``domain`` are fulfilled under ``params``."""
        for key, allowed in domain.when.items():
            values = params if key in self.domains else self.constants
            if key not in values or not any(same(values[key], value) for value in allowed):
                return False
        return True

    def existing(self, key: str, params: Mapping[str, Any]) -> tuple[int, Domain] | None:
        """The alternative of ``key`` that exists under ``params``, with its index; None if none does."""
        for index, domain in enumerate(self.domains[key]):
            if self.holds(domain, params):
                return index, domain
        return None

    def high(self, domain: Domain, params: Mapping[str, Any]) -> Any:
        """The upper end under ``params``; None for a categorical."""
        if isinstance(domain, Categorical):
            return None
        if domain.at_most is None or domain.at_most not in params:
            return domain.high
        high = min(domain.high, params[domain.at_most])
        if not domain.is_int:
            return float(high)
        step = int(domain.step or 1)
        return domain.low + (high - domain.low) // step * step

    def in_column_order(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """``params`` in the order of the columns."""
        return {key: params[key] for key in self.domains if key in params}

    @cached_property
    def _sorted(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(keys in sampling order, a cycle if there is one)."""
        needs = {key: set[str]() for key in self.domains}
        for key, _, domain in self.alternatives():
            refers = [*domain.when, *([domain.at_most] if isinstance(domain, Number) and domain.at_most else [])]
            needs[key].update(other for other in refers if other in self.domains)
        order: list[str] = []
        waiting = list(self.domains)
        while waiting:
            ready = next((key for key in waiting if needs[key] <= set(order)), None)
            if ready is None:
                break
            order.append(ready)
            waiting.remove(ready)
        if not waiting:
            return tuple(order), ()
        path = [waiting[0]]
        while path.count(path[-1]) == 1:
            path.append(next(key for key in waiting if key in needs[path[-1]]))
        return tuple(order), tuple(path[path.index(path[-1]) : -1])
