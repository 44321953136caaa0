"""Search spaces: which domains exist under which conditions, and how assignments are made. Standard library only.

A space maps flat keys to domains; *params* are one assignment, ``{"optim.lr": 3e-5, "uda.mode": "none"}``, without
a key that does not exist under it. A domain exists when its ``when`` holds: every key named there exists and has
one of the listed values. ``at_most`` lowers the upper end to the value of another parameter.

Optuna keeps one fixed distribution a name (its grouped TPE goes on with the first range it saw, so a range that
moves with another parameter would get stuck at its narrowest), hence these names on its side:

======================  ===================================================================================
``uda.k``               a domain as written
``optim.lr#1``          the second of several alternative domains of ``optim.lr``
``uda.k<=2``            the int ``uda.k`` while ``at_most`` cuts its range at 2
``a/b``                 the float ``a`` with ``at_most: b``: where it lies between its ends, from 0 to 1
======================  ===================================================================================
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple

from mmtune.space.domains import Categorical, Domain, Number, draw_value, position_in, same, suggest_value
from trainables.messages import did_you_mean, number_problem, show, unknown

_MOST_WORLDS = 10_000  # combinations of conditions looked at before a check gives up


class SpaceProblem(NamedTuple):
    key: str
    alternative: int | None  # its index; None when it is about the key
    field: tuple[str, ...]  # ("low",), ("when", "uda.mode"), ...; () when it is about the whole domain
    message: str
    refers_to: str | None = None  # the other key that a condition or at_most names


@dataclass(frozen=True)
class Space:
    """Flat keys and their domains; several domains of one key are alternatives, never true at once.

    Build it, then look at :meth:`problems`: everything else is defined only for a space without any.

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
    def unreachable(self) -> list[tuple[str, int]]:
        """(key, index) of each domain that exists under no combination of conditions."""
        return [(key, i) for key in self.keys for i in range(len(self.domains[key])) if self._world(key, i) is None]

    def problems(self) -> list[SpaceProblem]:
        """Everything wrong with the space."""
        found = [
            SpaceProblem(key, index, (name,), message)
            for key, index, domain in self._all()
            for name, message in domain.problems()
        ]
        for key, index, domain in self._all():
            found += self._dangling(key, index, domain)
        _, cycle = self._sorted
        if cycle:
            chain = " -> ".join((*cycle, cycle[0]))
            found.append(SpaceProblem(cycle[0], None, (), f"the conditions go round in a circle: {chain}"))
        return found or [*self._overlaps(), *self._unbounded()]

    def suggest(self, trial: Any) -> dict[str, Any]:
        """Asks ``trial`` (Optuna's suggest_float, suggest_int, suggest_categorical) for one full assignment."""
        params: dict[str, Any] = {}
        for key in self.order:
            if (found := self._existing(key, params)) is not None:
                index, domain = found
                name, high = self._name(key, index, domain, params)
                params[key] = suggest_value(trial, name, domain, high)
        return self._in_column_order(params)

    def to_optuna(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """``params``, full or partial, under Optuna's names, for ``enqueue_trial``; what does not exist is left out."""
        names: dict[str, Any] = {}
        for key in self.order:
            found = self._existing(key, params)
            if key not in params or found is None:
                continue
            index, domain = found
            name, high = self._name(key, index, domain, params)
            names[name] = params[key]
            if isinstance(domain, Number) and not domain.is_int:
                names[name] = float(params[key]) if domain.at_most is None else position_in(domain, high, params[key])
        return names

    def from_optuna(self, named: Mapping[str, Any]) -> dict[str, Any]:
        """The inverse of :meth:`to_optuna` for a full assignment, such as the params of a finished Optuna trial.

        Raises:
            KeyError: a parameter that exists is not in ``named``.
        """
        return self.suggest(_Replay(named))

    def check(self, params: Mapping[str, Any]) -> list[tuple[str, str]]:
        """What is wrong with a full or partial assignment, as (key, message)."""
        found = []
        for key, value in params.items():
            message = self._param_problem(key, value, params)
            if message is not None:
                found.append((key, message))
        return found

    def contains(self, params: Mapping[str, Any]) -> list[str]:
        """What is wrong with a full or partial assignment; empty if it lies in the space."""
        return [f"{key}: {message}" for key, message in self.check(params)]

    def corners(self, limit: int = 1000) -> Iterator[dict[str, Any]]:
        """Full assignments at the ends of all ranges, each choice included; the same ones in the same order always.

        Args:
            limit: all combinations of ends when there are no more than this; otherwise fewer, in which each
                combination of conditions (up to this many) and each end of each domain occurs twice: once with
                all else at its first, once with all else at its last value.
        """
        product = list(islice(self._walk(self.order, lambda *at: self._ends(*at)), limit + 1))
        if len(product) > limit:
            product = self._cover(limit)
        yield from map(self._in_column_order, product)

    def sample(self, rng: random.Random) -> dict[str, Any]:
        """A full assignment drawn at random: uniform, or log-uniform, in what each domain allows."""
        params: dict[str, Any] = {}
        for key in self.order:
            if (found := self._existing(key, params)) is not None:
                _, domain = found
                params[key] = draw_value(domain, self._high(domain, params), rng)
        return self._in_column_order(params)

    # --- what exists, and up to where --------------------------------------------------------------
    def _all(self) -> Iterator[tuple[str, int, Domain]]:
        for key, alternatives in self.domains.items():
            for index, domain in enumerate(alternatives):
                yield key, index, domain

    def _holds(self, domain: Domain, params: Mapping[str, Any]) -> bool:
        for key, allowed in domain.when.items():
            values = params if key in self.domains else self.constants
            if key not in values or not any(same(values[key], value) for value in allowed):
                return False
        return True

    def _existing(self, key: str, params: Mapping[str, Any]) -> tuple[int, Domain] | None:
        for index, domain in enumerate(self.domains[key]):
            if self._holds(domain, params):
                return index, domain
        return None

    def _high(self, domain: Domain, params: Mapping[str, Any]) -> Any:
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

    def _name(self, key: str, index: int, domain: Domain, params: Mapping[str, Any]) -> tuple[str, Any]:
        name = f"{key}#{index}" if index else key
        high = self._high(domain, params)
        if isinstance(domain, Number) and domain.at_most is not None:
            if not domain.is_int:
                name += f"/{domain.at_most}"
            elif high < domain.high:
                name += f"<={high}"
        return name, high

    def _in_column_order(self, params: dict[str, Any]) -> dict[str, Any]:
        return {key: params[key] for key in self.domains if key in params}

    # --- walking through combinations ---------------------------------------------------------------
    def _walk(self, keys: Sequence[str], pick: Callable[[str, Domain, dict[str, Any]], Sequence[Any]]):
        """All assignments of ``keys`` with the values that ``pick`` gives, depth first."""
        stack: list[tuple[int, dict[str, Any]]] = [(0, {})]
        while stack:
            position, params = stack.pop()
            while position < len(keys):
                key = keys[position]
                position += 1
                if (found := self._existing(key, params)) is not None:
                    first, *others = pick(key, found[1], params)
                    stack += [(position, {**params, key: value}) for value in reversed(others)]
                    params = {**params, key: first}
            yield params

    def _ends(self, _key: str, domain: Domain, params: Mapping[str, Any]) -> Sequence[Any]:
        if isinstance(domain, Categorical):
            return domain.choices
        high = self._high(domain, params)
        return [domain.low] if high == domain.low else [domain.low, high]

    def _worlds(self, keys: Collection[str]) -> Iterator[dict[str, Any]]:
        """Combinations of all that decides whether ``keys`` exist."""
        needed: set[str] = set()
        waiting = list(keys)
        while waiting:
            for domain in self.domains[waiting.pop()]:
                new = [key for key in domain.when if key in self.domains and key not in needed]
                needed.update(new)
                waiting += new
        switches = [key for key in self.order if key in needed]
        return islice(self._walk(switches, lambda *at: self._ends(*at)), _MOST_WORLDS)

    def _world(self, key: str, index: int) -> dict[str, Any] | None:
        """A combination under which this alternative exists."""
        domain = self.domains[key][index]
        return next((world for world in self._worlds([key]) if self._holds(domain, world)), None)

    def _cover(self, limit: int) -> list[dict[str, Any]]:
        worlds = islice(self._worlds(self.keys), limit)
        pins: list[tuple[dict[str, Any], str, int]] = [(world, "", 0) for world in worlds]
        for key, index, domain in self._all():
            if (world := self._world(key, index)) is not None:
                positions = range(len(domain.choices)) if isinstance(domain, Categorical) else (0, -1)
                pins += [(world, key, position) for position in positions]
        corners: dict[str, dict[str, Any]] = {}
        for world, pinned, position in pins:
            for background in (0, -1):

                def pick(key: str, domain: Domain, params: dict[str, Any], *, at=(world, pinned, position, background)):
                    world, pinned, position, background = at
                    if key in world and key != pinned:
                        return [world[key]]
                    return [self._ends(key, domain, params)[position if key == pinned else background]]

                corner = next(self._walk(self.order, pick))
                corners.setdefault(repr(corner), corner)
        return list(corners.values())

    # --- checks ---------------------------------------------------------------------------------------
    @cached_property
    def _sorted(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(keys in sampling order, a cycle if there is one)."""
        needs = {key: set[str]() for key in self.domains}
        for key, _, domain in self._all():
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

    def _dangling(self, key: str, index: int, domain: Domain) -> Iterator[SpaceProblem]:
        """References of one domain to what is not there or cannot be referred to."""
        for other, allowed in domain.when.items():
            for message in self._untestable(other, allowed):
                yield SpaceProblem(key, index, ("when", other), message, other)
        if isinstance(domain, Number) and domain.at_most is not None:
            for message in self._no_bound(domain, domain.at_most):
                yield SpaceProblem(key, index, ("at_most",), message, domain.at_most)

    def _untestable(self, other: str, allowed: Sequence[Any]) -> Iterator[str]:
        if other not in self.domains:
            if other not in self.constants:
                hint = did_you_mean(other, [*self.domains, *self.constants])
                yield f"'{other}' is neither searched nor fixed{hint}"
            return
        alternatives = self.domains[other]
        if not all(isinstance(alternative, Categorical) for alternative in alternatives):
            yield f"'{other}' is a number; a condition can only test a categorical"
            return
        choices = [
            c for alternative in alternatives if isinstance(alternative, Categorical) for c in alternative.choices
        ]
        for value in allowed:
            if not any(same(value, choice) for choice in choices):
                yield unknown(value, choices)

    def _no_bound(self, domain: Number, other: str) -> Iterator[str]:
        if other in self.constants and other not in self.domains:
            yield f"'{other}' is fixed at {show(self.constants[other])}; write that as high"
        elif other not in self.domains:
            numbers = [key for key, alternatives in self.domains.items() if isinstance(alternatives[0], Number)]
            yield f"'{other}' is not searched{did_you_mean(other, numbers)}"
        for alternative in self.domains.get(other, ()):
            if isinstance(alternative, Categorical):
                yield f"'{other}' is categorical; at_most needs a number"
            elif domain.is_int and not alternative.is_int:
                yield f"'{other}' is a float; an int can only be bounded by an int"
            elif alternative.low < domain.low:
                low = f"low ({show(domain.low)})"
                yield f"'{other}' can be {show(alternative.low)}, below {low} of this range, which would be empty"

    def _overlaps(self) -> Iterator[SpaceProblem]:
        for key, alternatives in self.domains.items():
            seen: set[tuple[int, int]] = set()
            for world in self._worlds([key]) if len(alternatives) > 1 else ():
                first, second, *_ = [i for i, d in enumerate(alternatives) if self._holds(d, world)] + [-1, -1]
                if second < 0 or (first, second) in seen:
                    continue
                seen.add((first, second))
                tested = {k: world[k] for i in (first, second) for k in alternatives[i].when if k in world}
                when = " and ".join(f"{k} is {_either([v])}" for k, v in tested.items())
                both = f"alternatives {first + 1} and {second + 1} both hold{f' when {when}' if when else ''}"
                yield SpaceProblem(key, second, (), f"{both}; their `when` must exclude each other")

    def _unbounded(self) -> Iterator[SpaceProblem]:
        for key, index, domain in self._all():
            if isinstance(domain, Categorical) or domain.at_most is None:
                continue
            other = domain.at_most
            for world in self._worlds([key, other]):
                if self._holds(domain, world) and self._existing(other, world) is None:
                    message = f"'{other}' does not always exist when '{key}' does; give both the same `when`"
                    yield SpaceProblem(key, index, ("at_most",), message, other)
                    break

    def _param_problem(self, key: str, value: Any, params: Mapping[str, Any]) -> str | None:
        if key not in self.domains:
            if key in self.constants:
                return f"is fixed at {show(self.constants[key])}, not searched"
            return f"is not searched{did_you_mean(key, self.keys)}"
        found = self._existing(key, params)
        if found is None:
            needs = [
                " and ".join(f"{k} is {_either(v)}" for k, v in domain.when.items()) for domain in self.domains[key]
            ]
            return f"exists only when {', or when '.join(needs)}"
        _, domain = found
        if isinstance(domain, Categorical):
            return None if any(same(value, choice) for choice in domain.choices) else unknown(value, domain.choices)
        problem = number_problem(value, is_int=domain.is_int)
        if problem is not None:
            return problem
        if not domain.low <= value <= domain.high:
            return f"{show(value)} is not in {show(domain.low)} to {show(domain.high)}"
        steps = (value - domain.low) / (domain.step or 1)
        if domain.step is not None and abs(steps - round(steps)) > 1e-8:  # Optuna's own tolerance
            return f"{show(value)} is not {show(domain.low)} plus a multiple of {show(domain.step)}"
        other = domain.at_most
        if other is not None and other not in params:
            return f"give {other} as well, it is the upper end"
        if other is not None and self._param_problem(other, params[other], params) is None and value > params[other]:
            return f"{show(value)} is above {other} ({show(params[other])})"
        return None


def _either(values: Sequence[Any]) -> str:
    return " or ".join(value if isinstance(value, str) else show(value) for value in values) or "what is not searched"


class _Replay:
    """Answers as a trial that has these params already."""

    def __init__(self, named: Mapping[str, Any]) -> None:
        self.named = named

    def suggest_float(self, name: str, *_: Any, **__: Any) -> float:
        return self.named[name]

    suggest_int = suggest_categorical = suggest_float
