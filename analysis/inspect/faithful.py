"""Whether an explanation names what the model goes by: deletion and insertion curves (Petsiuk et al. 2018).

n units (cells of a picture, tokens of a text) are taken away from the whole sample, or put into an empty one, those
that the explanation has as most important first. A faithful one lets the score fall early in the first curve and rise
early in the second: a small area under deletion, a large one under insertion, against the same in random order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

Score = Callable[[np.ndarray], np.ndarray]  # which units are there (K, n) -> scores (K,)
AREAS = ("deletion", "insertion", "random_deletion", "random_insertion")
_STEPS = 24  # of a curve, at most
_DRAWS = 10  # random orders


def faithfulness(
    score: Score,
    explanations: dict[str, np.ndarray],
    *,
    seed: int,
    draws: int = _DRAWS,
    points: list[dict[str, Any]] | None = None,
) -> dict[str, dict[str, float]]:
    """Areas under the curves of explanations of a sample: AREAS by name; random orders are the same for all.

    Args:
        score: of the sample with some of its units.
        explanations: importance of each unit (n,), by name.
        seed: of the random orders.
        draws: their number.
        points: receives a row a point of each curve: explanation (``random``: the mean over the draws), curve
            (deletion, insertion), share of the units that were changed, score.
    """
    rng = np.random.default_rng(seed)
    num = len(next(iter(explanations.values())))
    orders = [np.argsort(-values_n, kind="stable") for values_n in explanations.values()]
    orders += [rng.permutation(num) for _ in range(draws)]
    found: dict[str, dict[str, float]] = {name: {} for name in explanations}
    for kind, is_insertion in (("deletion", False), ("insertion", True)):
        curves = [steps(order, is_insertion=is_insertion) for order in orders]
        scores = np.split(score(np.concatenate([there for _, there in curves])), len(orders))
        areas = [area(shares, values) for (shares, _), values in zip(curves, scores, strict=True)]
        for name, value in zip(found, areas, strict=False):
            found[name] |= {kind: value, f"random_{kind}": float(np.mean(areas[len(found) :]))}
        if points is not None:
            drawn = {**dict(zip(found, scores, strict=False)), "random": np.mean(scores[len(found) :], axis=0)}
            for name, values in drawn.items():
                pairs = zip(curves[0][0].tolist(), values.tolist(), strict=True)
                points += [
                    {"explanation": name, "curve": kind, "share": share, "score": value} for share, value in pairs
                ]
    return found


def steps(order_n: np.ndarray, *, is_insertion: bool) -> tuple[np.ndarray, np.ndarray]:
    """K points of a curve, 25 at most: shares of units that were changed (K,), from 0 to 1; which are there (K, n).

    Args:
        order_n: the units, first those that are changed first.
        is_insertion: put in, not taken away.
    """
    num = len(order_n)
    changed = np.unique(np.linspace(0, num, min(num, _STEPS) + 1).round().astype(int))
    there = np.full((len(changed), num), not is_insertion)
    for row, count in zip(there, changed, strict=True):
        row[order_n[:count]] = is_insertion
    return changed / num, there


def area(shares: np.ndarray, scores: np.ndarray) -> float:
    """Under a curve, by trapezoids."""
    return float(((scores[1:] + scores[:-1]) / 2 * np.diff(shares)).sum())


def told_areas(table: pd.DataFrame, by: str) -> list[str]:
    """A line for each kind of explanation in the column ``by``: mean areas against those of random orders."""
    lines = []
    for name, rows in table.groupby(by, sort=False):
        means = {kind: float(np.mean(rows[kind])) for kind in AREAS}
        lines.append(
            f"{name}: deletion {means['deletion']:.4f} (random {means['random_deletion']:.4f}, lower is better), "
            f"insertion {means['insertion']:.4f} (random {means['random_insertion']:.4f}, higher is better)"
        )
    return lines
