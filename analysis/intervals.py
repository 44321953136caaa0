"""What chance leaves open about a metric of N rows: intervals around it.

Of a share of rows that are right, Wilson's interval (1927, JASA 22: 209): with n rows, share p and z the normal
quantile, (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n). Of any other metric the percentile bootstrap (Efron
& Tibshirani 1993, ch. 13): rows are drawn with replacement, and the metric is computed of each draw. Both are about the
rows, not about training again with another seed.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from trainables.metrics import compute_metrics
from trainables.task import Task

LEVEL, DRAWS = 0.95, 500
SHARES = ("accuracy", "subset_accuracy")  # of rows that are right

Interval = tuple[float, float]


def wilson(share: float, number: int, *, level: float = LEVEL) -> Interval:
    """Wilson's interval of a share of ``number`` rows."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    middle, spread = share + z * z / (2 * number), share * (1 - share) / number + (z / (2 * number)) ** 2
    whole = 1 + z * z / number
    return max(0.0, (middle - z * math.sqrt(spread)) / whole), min(1.0, (middle + z * math.sqrt(spread)) / whole)


def bootstrap(
    logits: np.ndarray, labels: np.ndarray, task: Task, *, draws: int = DRAWS, seed: int = 0, level: float = LEVEL
) -> dict[str, Interval]:
    """The percentile interval of each of the task's metrics.

    Args:
        logits: as for :func:`trainables.metrics.compute_metrics`.
        labels: as for the same.
        task: which metrics there are.
        draws: how often all rows are drawn anew.
        seed: of the draws.
        level: share of the draws inside.
    """
    random, found = np.random.default_rng(seed), dict[str, list[float]]()
    for _ in range(draws):
        rows = random.integers(0, len(labels), len(labels))
        for name, value in compute_metrics(logits[rows], labels[rows], task).items():
            found.setdefault(name, []).append(value)
    tails = [(1 - level) / 2, (1 + level) / 2]
    return {name: (float(low), float(high)) for name, v in found.items() for low, high in [np.quantile(v, tails)]}


def intervals(logits: np.ndarray, labels: np.ndarray, task: Task) -> dict[str, Interval]:
    """Of each of the task's metrics: Wilson's of shares of rows, of the others the bootstrap's."""
    found, values = bootstrap(logits, labels, task), compute_metrics(logits, labels, task)
    return found | {name: wilson(values[name], len(labels)) for name in SHARES if name in values}
