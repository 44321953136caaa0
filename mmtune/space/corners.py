"""Combinations of what a space can be: its corners, and the worlds of its conditions. Standard library only."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

from mmtune.space.domains import Categorical, Domain
from mmtune.space.space import Space

_MOST_WORLDS = 10_000  # combinations of conditions looked at before a check gives up


def corners(space: Space, limit: int = 1000) -> Iterator[dict[str, Any]]:
    """Full assignments at the ends of all ranges, each choice included; the same ones in the same order always.

    Args:
        limit: all combinations of ends when there are no more than this; otherwise fewer, in which each
            combination of conditions (up to this many) and each end of each domain occurs twice: once with
            all else at its first, once with all else at its last value.
    """
    product = list(islice(_walk(space, space.order, partial(_ends, space)), limit + 1))
    if len(product) > limit:
        product = _cover(space, limit)
    yield from map(space.in_column_order, product)


def worlds(space: Space, keys: Collection[str]) -> Iterator[dict[str, Any]]:
    """Combinations of all that decides whether ``keys`` exist, ten thousand at most."""
    needed: set[str] = set()
    waiting = list(keys)
    while waiting:
        for domain in space.domains[waiting.pop()]:
            new = [key for key in domain.when if key in space.domains and key not in needed]
            needed.update(new)
            waiting += new
    switches = [key for key in space.order if key in needed]
    return islice(_walk(space, switches, partial(_ends, space)), _MOST_WORLDS)


def world_of(space: Space, key: str, index: int) -> dict[str, Any] | None:
    """A combination under which this alternative exists."""
    domain = space.domains[key][index]
    return next((world for world in worlds(space, [key]) if space.holds(domain, world)), None)


def _cover(space: Space, limit: int) -> list[dict[str, Any]]:
    pins: list[tuple[dict[str, Any], str, int]] = [(world, "", 0) for world in islice(worlds(space, space.keys), limit)]
    for key, index, domain in space.alternatives():
        if (world := world_of(space, key, index)) is not None:
            positions = range(len(domain.choices)) if isinstance(domain, Categorical) else (0, -1)
            pins += [(world, key, position) for position in positions]
    found: dict[str, dict[str, Any]] = {}
    for world, pinned, position in pins:
        for background in (0, -1):

            def pick(key: str, domain: Domain, params: dict[str, Any], *, at=(world, pinned, position, background)):
                world, pinned, position, background = at
                if key in world and key != pinned:
                    return [world[key]]
                return [_ends(space, key, domain, params)[position if key == pinned else background]]

            corner = next(_walk(space, space.order, pick))
            found.setdefault(repr(corner), corner)
    return list(found.values())


def _walk(
    space: Space, keys: Sequence[str], pick: Callable[[str, Domain, dict[str, Any]], Sequence[Any]]
) -> Iterator[dict[str, Any]]:
    """All assignments of ``keys`` with the values that ``pick`` gives, depth first."""
    stack: list[tuple[int, dict[str, Any]]] = [(0, {})]
    while stack:
        position, params = stack.pop()
        while position < len(keys):
            key = keys[position]
            position += 1
            if (found := space.existing(key, params)) is not None:
                first, *others = pick(key, found[1], params)
                stack += [(position, {**params, key: value}) for value in reversed(others)]
                params = {**params, key: first}
        yield params


def _ends(space: Space, _key: str, domain: Domain, params: Mapping[str, Any]) -> Sequence[Any]:
    if isinstance(domain, Categorical):
        return domain.choices
    high = space.high(domain, params)
    return [domain.low] if high == domain.low else [domain.low, high]
