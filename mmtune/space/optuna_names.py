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

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from mmtune.space.domains import Categorical, Domain, Number
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
            names[name] = float(params[key]) if domain.at_most is None else _position_in(domain, high, params[key])
    return names


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
        return _at_position(domain, high, trial.suggest_float(name, 0.0, 1.0))
    return trial.suggest_float(name, domain.low, high, log=domain.log, step=domain.step)


def _position_in(domain: Number, high: float, value: float) -> float:
    """Where ``value`` lies from low (0) to ``high`` (1), as :func:`suggest` asks Optuna for it, to rounding."""
    if value <= domain.low or high <= domain.low:
        return 0.0
    if domain.log:
        position = (math.log(value) - math.log(domain.low)) / (math.log(high) - math.log(domain.low))
    else:
        position = (value - domain.low) / (high - domain.low)
    near = (position, math.nextafter(position, 0), math.nextafter(position, 1))
    exact = [p for p in near if _at_position(domain, high, min(p, 1.0)) == value]
    return min((exact or [position])[0], 1.0)


def _at_position(domain: Number, high: float, position: float) -> float:
    """The float that lies ``position`` (0 to 1) of the way from low to ``high``, by logarithm where log is set."""
    if position in (0, 1):
        return float(high if position else domain.low)
    if domain.log:
        value = math.exp(math.log(domain.low) + position * (math.log(high) - math.log(domain.low)))
    else:
        value = domain.low + position * (high - domain.low)
    return float(min(max(value, domain.low), high))
