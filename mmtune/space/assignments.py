"""What is wrong with an assignment of a space, such as a row of ``try_first``. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmtune.space.domains import Categorical, same
from mmtune.space.space import Space
from trainables.messages import did_you_mean, number_problem, show, unknown


def check(space: Space, params: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is wrong with a full or partial assignment, as (key, message)."""
    found = []
    for key, value in params.items():
        message = _problem(space, key, value, params)
        if message is not None:
            found.append((key, message))
    return found


def _problem(space: Space, key: str, value: Any, params: Mapping[str, Any]) -> str | None:
    if key not in space.domains:
        if key in space.constants:
            return f"is fixed at {show(space.constants[key])}, not searched"
        return f"is not searched{did_you_mean(key, space.keys)}"
    found = space.existing(key, params)
    if found is None:
        needs = [" and ".join(f"{k} is {_either(v)}" for k, v in domain.when.items()) for domain in space.domains[key]]
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
    if other is not None and _problem(space, other, params[other], params) is None and value > params[other]:
        return f"{show(value)} is above {other} ({show(params[other])})"
    return None


def _either(values: Sequence[Any]) -> str:
    return " or ".join(value if isinstance(value, str) else show(value) for value in values) or "what is not searched"
