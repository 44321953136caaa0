"""Search spaces: domains, the conditions under which they exist, and how they are sampled. Standard library only.

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

import difflib
import math
import random
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple

_MOST_WORLDS = 10_000  # combinations of conditions looked at before a check gives up
_LARGEST_INT = 2**53  # beyond it Optuna's float representation loses whole numbers


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
        twice = [b for i, b in enumerate(self.choices) if any(a == b for a in self.choices[:i])]
        why = "occurs twice (Optuna compares 1, 1.0 and true as equal)"
        return [("choices", f"{show(value)} {why}") for value in twice]


Domain = Number | Categorical


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
                params[key] = _suggest(trial, name, domain, high)
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
                names[name] = float(params[key]) if domain.at_most is None else _position(domain, high, params[key])
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
                params[key] = _draw(domain, self._high(domain, params), rng)
        return self._in_column_order(params)

    # --- what exists, and up to where --------------------------------------------------------------
    def _all(self) -> Iterator[tuple[str, int, Domain]]:
        for key, alternatives in self.domains.items():
            for index, domain in enumerate(alternatives):
                yield key, index, domain

    def _holds(self, domain: Domain, params: Mapping[str, Any]) -> bool:
        for key, allowed in domain.when.items():
            values = params if key in self.domains else self.constants
            if key not in values or not any(_same(values[key], value) for value in allowed):
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
            if not any(_same(value, choice) for choice in choices):
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
            return None if any(_same(value, choice) for choice in domain.choices) else unknown(value, domain.choices)
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


# --- words for messages -------------------------------------------------------------------------------
def show(value: Any) -> str:
    """``value`` as it is written in YAML, strings in quotes; cut short when long."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    try:
        text = repr(value)
    except ValueError:  # more digits than Python prints
        return "a number of thousands of digits"
    if isinstance(value, float) and "e" in text and "." not in text:
        text = text.replace("e", ".0e")  # as YAML wants it
    return text if len(text) <= 60 else f"{text[:57]}..."


def did_you_mean(word: Any, known: Collection[Any]) -> str:
    """', did you mean 'x'?' when something known is close to ``word``, else ''."""
    names = [str(name) for name in known]
    longer = [name for name in names if len(str(word)) > 2 and name.startswith(str(word))]
    close = longer or difflib.get_close_matches(str(word), names, n=1, cutoff=0.5)
    return f", did you mean '{close[0]}'?" if close else ""


def unknown(word: Any, known: Collection[Any], what: str | None = None) -> str:
    """'mbmv' is unknown, did you mean 'mmbv'? Known: clip, flava, ...

    Args:
        what: how to call it, instead of the word in quotes.
    """
    names = [name if isinstance(name, str) else show(name) for name in known]
    few = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    hint = did_you_mean(word, names) or "."
    return f"{show(word) if what is None else what} is unknown{hint}" + (f" Known: {few}" if few else "")


def number_problem(value: Any, *, is_int: bool = False) -> str | None:
    """Why ``value`` is no finite number (a whole one if ``is_int``), None if it is; a bool is none."""
    if isinstance(value, str):
        if (written := _float_for_yaml(value)) is not None:
            return f"'{value}' is a string in YAML; write {written}"
        return f"{show(value)} is not a number"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"{show(value)} is not a number"
    if is_int:
        return None if isinstance(value, int) else f"{show(value)} is not a whole number"
    try:
        is_finite = math.isfinite(value)
    except OverflowError:
        is_finite = False
    return None if is_finite else f"{show(value)} is not finite"


def _float_for_yaml(text: str) -> str | None:
    """'1e-5' -> '1.0e-5': YAML 1.1 wants a point in the mantissa and a sign in the exponent."""
    match = re.fullmatch(r"([+-]?\d+)(\.\d*)?(?:[eE]([+-]?)(\d+))?", text.strip(), re.ASCII)
    if match is None:
        return None
    whole, fraction, sign, exponent = match.groups()
    if exponent is None:
        return whole + (fraction or "")
    return f"{whole}{fraction if fraction and fraction != '.' else '.0'}e{sign or '+'}{exponent}"


def _either(values: Sequence[Any]) -> str:
    return " or ".join(value if isinstance(value, str) else show(value) for value in values) or "what is not searched"


# --- values -------------------------------------------------------------------------------------------
def _same(a: Any, b: Any) -> bool:
    """Equal, and both or neither a bool: 1 is not true."""
    return isinstance(a, bool) == isinstance(b, bool) and a == b


def _exact(value: float) -> Fraction:
    return Fraction(str(value))  # 0.1 means 1/10, as in Optuna's own check


def _suggest(trial: Any, name: str, domain: Domain, high: Any) -> Any:
    if isinstance(domain, Categorical):
        return trial.suggest_categorical(name, domain.choices)
    if domain.is_int:
        return trial.suggest_int(name, domain.low, high, log=domain.log, step=int(domain.step or 1))
    if domain.at_most is not None:
        return _at_position(domain, high, trial.suggest_float(name, 0.0, 1.0))
    return trial.suggest_float(name, domain.low, high, log=domain.log, step=domain.step)


def _at_position(domain: Number, high: float, position: float) -> float:
    """The float that lies ``position`` (0 to 1) of the way from low to ``high``, by logarithm where log is set."""
    if position in (0, 1):
        return float(high if position else domain.low)
    if domain.log:
        value = math.exp(math.log(domain.low) + position * (math.log(high) - math.log(domain.low)))
    else:
        value = domain.low + position * (high - domain.low)
    return float(min(max(value, domain.low), high))


def _position(domain: Number, high: float, value: float) -> float:
    """The inverse of :func:`_at_position`, to rounding; a range of one point has position 0."""
    if value <= domain.low or high <= domain.low:
        return 0.0
    if domain.log:
        position = (math.log(value) - math.log(domain.low)) / (math.log(high) - math.log(domain.low))
    else:
        position = (value - domain.low) / (high - domain.low)
    near = (position, math.nextafter(position, 0), math.nextafter(position, 1))
    exact = [p for p in near if _at_position(domain, high, min(p, 1.0)) == value]
    return min((exact or [position])[0], 1.0)


def _draw(domain: Domain, high: Any, rng: random.Random) -> Any:
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


class _Replay:
    """Answers as a trial that has these params already."""

    def __init__(self, named: Mapping[str, Any]) -> None:
        self.named = named

    def suggest_float(self, name: str, *_: Any, **__: Any) -> float:
        return self.named[name]

    suggest_int = suggest_categorical = suggest_float
