"""What is wrong with a space: ends, dangling references, circles, alternatives that overlap. Standard library only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from mmtune.space.corners import world_of, worlds
from mmtune.space.domains import Categorical, Domain, Number, same
from mmtune.space.space import Space
from trainables.messages import did_you_mean, show, unknown


class SpaceProblem(NamedTuple):
    key: str
    alternative: int | None  # its index; None when it is about the key
    field: tuple[str, ...]  # ("low",), ("when", "uda.mode"), ...; () when it is about the whole domain
    message: str
    refers_to: str | None = None  # the other key that a condition or at_most names


def problems_of(space: Space) -> list[SpaceProblem]:
    """Everything wrong with the space."""
    found = [
        SpaceProblem(key, index, (name,), message)
        for key, index, domain in space.alternatives()
        for name, message in domain.problems()
    ]
    for key, index, domain in space.alternatives():
        found += _dangling(space, key, index, domain)
    if space.cycle:
        chain = " -> ".join((*space.cycle, space.cycle[0]))
        found.append(SpaceProblem(space.cycle[0], None, (), f"the conditions go round in a circle: {chain}"))
    return found or [*_overlaps(space), *_unbounded(space)]


def unreachable(space: Space) -> list[tuple[str, int]]:
    """(key, index) of each domain that exists under no combination of conditions."""
    return [(key, i) for key in space.keys for i in range(len(space.domains[key])) if world_of(space, key, i) is None]


def _dangling(space: Space, key: str, index: int, domain: Domain) -> Iterator[SpaceProblem]:
    """References of one domain to what is not there or cannot be referred to."""
    for other, allowed in domain.when.items():
        for message in _untestable(space, other, allowed):
            yield SpaceProblem(key, index, ("when", other), message, other)
    if isinstance(domain, Number) and domain.at_most is not None:
        for message in _no_bound(space, domain, domain.at_most):
            yield SpaceProblem(key, index, ("at_most",), message, domain.at_most)


def _untestable(space: Space, other: str, allowed: Sequence[Any]) -> Iterator[str]:
    if other not in space.domains:
        if other not in space.constants:
            hint = did_you_mean(other, [*space.domains, *space.constants])
            yield f"'{other}' is neither searched nor fixed{hint}"
        return
    alternatives = space.domains[other]
    if not all(isinstance(alternative, Categorical) for alternative in alternatives):
        yield f"'{other}' is a number; a condition can only test a categorical"
        return
    choices = [c for alternative in alternatives if isinstance(alternative, Categorical) for c in alternative.choices]
    for value in allowed:
        if not any(same(value, choice) for choice in choices):
            yield unknown(value, choices)


def _no_bound(space: Space, domain: Number, other: str) -> Iterator[str]:
    if other in space.constants and other not in space.domains:
        yield f"'{other}' is fixed at {show(space.constants[other])}; write that as high"
    elif other not in space.domains:
        numbers = [key for key, alternatives in space.domains.items() if isinstance(alternatives[0], Number)]
        yield f"'{other}' is not searched{did_you_mean(other, numbers)}"
    for alternative in space.domains.get(other, ()):
        if isinstance(alternative, Categorical):
            yield f"'{other}' is categorical; at_most needs a number"
        elif domain.is_int and not alternative.is_int:
            yield f"'{other}' is a float; an int can only be bounded by an int"
        elif alternative.low < domain.low:
            low = f"low ({show(domain.low)})"
            yield f"'{other}' can be {show(alternative.low)}, below {low} of this range, which would be empty"


def _overlaps(space: Space) -> Iterator[SpaceProblem]:
    for key, alternatives in space.domains.items():
        seen: set[tuple[int, int]] = set()
        for world in worlds(space, [key]) if len(alternatives) > 1 else ():
            first, second, *_ = [i for i, d in enumerate(alternatives) if space.holds(d, world)] + [-1, -1]
            if second < 0 or (first, second) in seen:
                continue
            seen.add((first, second))
            tested = {k: world[k] for i in (first, second) for k in alternatives[i].when if k in world}
            when = " and ".join(f"{k} is {v if isinstance(v, str) else show(v)}" for k, v in tested.items())
            both = f"alternatives {first + 1} and {second + 1} both hold{f' when {when}' if when else ''}"
            yield SpaceProblem(key, second, (), f"{both}; their `when` must exclude each other")


def _unbounded(space: Space) -> Iterator[SpaceProblem]:
    for key, index, domain in space.alternatives():
        if isinstance(domain, Categorical) or domain.at_most is None:
            continue
        other = domain.at_most
        for world in worlds(space, [key, other]):
            if space.holds(domain, world) and space.existing(other, world) is None:
                message = f"'{other}' does not always exist when '{key}' does; give both the same `when`"
                yield SpaceProblem(key, index, ("at_most",), message, other)
                break
