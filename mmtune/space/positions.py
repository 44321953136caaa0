"""Where a number lies in its range, from 0 to 1, and back. Standard library only."""

from __future__ import annotations

import math

from mmtune.space.domains import Number, exact


def position_in(domain: Number, high: float, value: float) -> float:
    """Where ``value`` lies from low (0) to ``high`` (1), to rounding; :func:`float_at` gives it back."""
    if value <= domain.low or high <= domain.low:
        return 0.0
    if domain.log:
        position = (math.log(value) - math.log(domain.low)) / (math.log(high) - math.log(domain.low))
    else:
        position = (value - domain.low) / (high - domain.low)
    near = (position, math.nextafter(position, 0), math.nextafter(position, 1))
    hits = [p for p in near if float_at(domain, high, min(p, 1.0)) == value]
    return min((hits or [position])[0], 1.0)


def float_at(domain: Number, high: float, position: float) -> float:
    """The float that lies ``position`` (0 to 1) of the way from low to ``high``, by logarithm where log is set."""
    if position in (0, 1):
        return float(high if position else domain.low)
    if domain.log:
        value = math.exp(math.log(domain.low) + position * (math.log(high) - math.log(domain.low)))
    else:
        value = domain.low + position * (high - domain.low)
    return float(min(max(value, domain.low), high))


def value_at(domain: Number, high: float, position: float) -> float:
    """The value of the domain nearest to :func:`float_at`: whole for an int, on a step where there are steps."""
    value = float_at(domain, high, position)
    if domain.step is not None:
        steps = round((value - domain.low) / domain.step)
        value = float(exact(domain.low) + steps * exact(domain.step))
    value = min(max(value, domain.low), high)
    return round(value) if domain.is_int else float(value)
