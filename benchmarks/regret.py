"""What a search is scored by: its regret over the logarithm of the budget, and the area under it beside another's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

BUDGET = 30.0  # whole trainings
POINTS = 400


def on_grid(seen: Sequence[tuple[float, float]]) -> np.ndarray:
    """Regret at ``POINTS`` budgets, evenly in their logarithm from 1 to ``BUDGET`` trainings.

    Args:
        seen: (trainings spent, regret of the best so far) after each epoch.
    """
    times, values = np.array(seen).T
    grid = np.exp(np.linspace(0, math.log(BUDGET), POINTS))
    index = np.searchsorted(times, grid + 1e-9, side="right") - 1
    return np.where(index >= 0, values[np.maximum(index, 0)], 1.0).clip(0, 1)


def ratio_of(mine: dict[int, list[Any]], base: dict[int, list[Any]]) -> tuple[float, float, float]:
    """The ratio of two methods' mean areas, and its 90 % interval over resampled seeds."""
    seeds = sorted(mine)
    own = np.array([np.mean(mine[seed]) for seed in seeds])
    other = np.array([np.mean(base[seed]) for seed in seeds])
    draws = np.random.default_rng(0).integers(len(seeds), size=(2000, len(seeds)))
    low, high = np.percentile(own[draws].sum(axis=1) / other[draws].sum(axis=1), [5, 95])
    return float(own.sum() / other.sum()), float(low), float(high)
