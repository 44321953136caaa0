"""Means of a few repetitions: their intervals, their differences, and which mean is best.

What is known of the true mean of n values with mean m and standard deviation s (ddof = 1) is m + s/sqrt(n) T, with T of
Student's t distribution with n - 1 degrees of freedom: the posterior under the prior 1/sigma² (Gelman et al., Bayesian
Data Analysis, 3.2), whose 95 % interval is the classical one. Several means are independent of each other.
docs/methods.md#confirmation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

_NODES = 4000  # of an integral over a mean
_SMALLEST = 1e-12  # of a standard error beside the mean itself: values that are all equal


def interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """The t-interval of the mean of ``values``; nan for fewer than two."""
    if len(values) < 2:
        return math.nan, math.nan
    from scipy import stats  # half a second

    mean, error = _mean_and_error(values)
    half = float(stats.t.ppf((1 + level) / 2, len(values) - 1)) * error
    return mean - half, mean + half


def difference_interval(one: Sequence[float], other: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Welch's t-interval of the difference of two means of independent values; nan where one has fewer than two."""
    if min(len(one), len(other)) < 2:
        return math.nan, math.nan
    from scipy import stats

    (mean, error), (center, scale) = _mean_and_error(one), _mean_and_error(other)
    total = error**2 + scale**2
    degrees = total**2 / (error**4 / (len(one) - 1) + scale**4 / (len(other) - 1))
    half = float(stats.t.ppf((1 + level) / 2, degrees)) * math.sqrt(total)
    return mean - center - half, mean - center + half


def probability_best(groups: Sequence[Sequence[float]], mode: str) -> list[float]:
    """For each group of values the probability that its mean is the best of all; they add up to 1.

    The integral over the posterior of one mean of the probability that all others are worse. Groups with fewer than two
    values have no posterior: nan, and they are left out of the comparison.

    Args:
        groups: values of each candidate.
        mode: 'max' or 'min'.
    """
    from scipy import stats

    sign = 1.0 if mode == "max" else -1.0
    known = [index for index, values in enumerate(groups) if len(values) > 1]
    found = [math.nan] * len(groups)
    means = {index: _mean_and_error(groups[index]) for index in known}
    angles = (np.arange(_NODES) + 0.5) / _NODES * math.pi - math.pi / 2
    for index in known:
        degrees, (mean, error) = len(groups[index]) - 1, means[index]
        weights = np.cos(angles) ** (degrees - 1)  # the density of the angle whose tangent is T / sqrt(degrees)
        at = sign * mean + error * math.sqrt(degrees) * np.tan(angles)
        for other in known:
            if other != index:
                center, scale = means[other]
                weights = weights * stats.t.cdf((at - sign * center) / scale, len(groups[other]) - 1)
        found[index] = float(weights.sum())
        found[index] /= float((np.cos(angles) ** (degrees - 1)).sum())
    total = sum(found[index] for index in known)
    return [value / total for value in found]


def _mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    mean = math.fsum(values) / len(values)
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return mean, max(error, _SMALLEST * max(abs(mean), 1.0))
