"""What the trials of a search need from the caches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from mmtune.space.drawing import completed
from mmtune.spec.search_spec import SearchSpec

if TYPE_CHECKING:
    from trainables.data.requirements import Requirement


def requirements_of(
    spec: SearchSpec, rows: Iterable[Mapping[str, Any]], data_dir: str | None = None
) -> list[Requirement]:
    """What trials of these params need, in their order and each once.

    Raises:
        ValueError: an encoder or dataset that cannot be read.
    """
    from trainables.data.requirements import requirements

    needed: dict[Requirement, None] = {}
    for params in rows:
        needed |= dict.fromkeys(requirements(spec.trial_config(params, data_dir)))
    return list(needed)


def search_requirements(spec: SearchSpec, data_dir: str | None) -> list[Requirement]:
    """Everything that trials of a search could need, by the corners of its space and ``try_first``.

    Raises:
        ValueError: an encoder or dataset that cannot be read.
    """
    return requirements_of(spec, corner_params(spec, limit=256), data_dir)


def requirements_ahead(
    spec: SearchSpec, data_dir: str | None, *, slots: int
) -> tuple[list[Requirement], list[Requirement]]:
    """Features that the first trials need, two a slot at most, and all that trials of ``try_first`` need, or, without
    it, of the space's corners.

    Raises:
        ValueError: an encoder or dataset that cannot be read.
    """

    def features(rows: Iterable[Mapping[str, Any]]) -> list[Requirement]:
        return [need for need in requirements_of(spec, rows, data_dir) if need.uses_features]

    given = given_params(spec)
    needed = features(given or spec.corners(limit=64))
    first = features(given[:slots]) if given else needed
    return first[: 2 * slots], needed


def corner_params(spec: SearchSpec, *, limit: int) -> list[Mapping[str, Any]]:
    """``try_first`` and at most ``limit`` corners of the space; finalists each once."""
    return [*given_params(spec), *spec.corners(limit=limit)]


def given_params(spec: SearchSpec) -> list[Mapping[str, Any]]:
    """Rows of ``try_first`` that name a family; what they leave open at its first choice or lower end. None of
    finalists, which corners are."""
    rows = [] if spec.finalists else [params for params in spec.try_first if spec.family or "family" in params]
    return [completed(spec.space, params) for params in rows]
