"""A space in Optuna's words: what a trial is asked for, and what is enqueued for it. Standard library only.

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

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from mmtune.space.domains import Categorical, Domain, Number
from mmtune.space.positions import float_at, position_in
from mmtune.space.space import Space


class Trial(Protocol):
    """What is asked of an Optuna trial."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float: ...
    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int: ...
    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...


def suggest(space: Space, trial: Trial) -> dict[str, Any]:
    """One full assignment, each value asked of ``trial``."""
    params: dict[str, Any] = {}
    for key in space.order:
        if (found := space.existing(key, params)) is not None:
            index, domain = found
            name, high = _name(space, key, index, domain, params)
            params[key] = _value(trial, name, domain, high)
    return space.in_column_order(params)


def to_optuna(space: Space, params: Mapping[str, Any]) -> dict[str, Any]:
    """``params``, full or partial, under Optuna's names, for ``enqueue_trial``; what does not exist is left out."""
    names: dict[str, Any] = {}
    for key in space.order:
        found = space.existing(key, params)
        if key not in params or found is None:
            continue
        index, domain = found
        name, high = _name(space, key, index, domain, params)
        names[name] = params[key]
        if isinstance(domain, Number) and not domain.is_int:
            names[name] = float(params[key]) if domain.at_most is None else position_in(domain, high, params[key])
    return names


def from_optuna(space: Space, named: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of :func:`to_optuna` for a full assignment, such as the params of an Optuna trial.

    Raises:
        KeyError: a parameter that exists is not in ``named``.
    """
    return suggest(space, _Replay(named))


def is_full(space: Space, named: Mapping[str, Any]) -> bool:
    """Whether :func:`from_optuna` takes ``named``: a kill may have cut it short while it was proposed."""
    try:
        from_optuna(space, named)
    except KeyError:
        return False
    return True


class _Replay:
    """Answers as a trial that has these params already."""

    def __init__(self, named: Mapping[str, Any]) -> None:
        self._named = named

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return self._named[name]

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return self._named[name]

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._named[name]


def _name(space: Space, key: str, index: int, domain: Domain, params: Mapping[str, Any]) -> tuple[str, Any]:
    name = f"{key}#{index}" if index else key
    high = space.high(domain, params)
    if isinstance(domain, Number) and domain.at_most is not None:
        if not domain.is_int:
            name += f"/{domain.at_most}"
        elif high < domain.high:
            name += f"<={high}"
    return name, high


def _value(trial: Trial, name: str, domain: Domain, high: Any) -> Any:
    """A value from Optuna's ``trial`` under ``name``.

    Args:
        high: the upper end as ``at_most`` leaves it; None for a categorical.
    """
    if isinstance(domain, Categorical):
        return trial.suggest_categorical(name, domain.choices)
    if domain.is_int:
        return trial.suggest_int(name, int(domain.low), high, log=domain.log, step=int(domain.step or 1))
    if domain.at_most is not None:
        return float_at(domain, high, trial.suggest_float(name, 0.0, 1.0))
    return trial.suggest_float(name, domain.low, high, log=domain.log, step=domain.step)
