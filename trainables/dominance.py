"""Points with several axes, each to be minimised: which dominate, in what order they are kept, and the volume below.

A point dominates another if it is at least as good on every axis and strictly better on one. Hypervolume by slicing
(Zitzler 1999; While et al. 2006): exact, exponential in the number of axes, which are two or three here. Numpy only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def non_dominated(points: np.ndarray) -> np.ndarray:
    """Which rows of ``points`` (n, axes), each axis to be minimised, are non-dominated: booleans, (n,)."""
    if points.shape[1] == 2 and not np.isnan(points).any():
        return _staircase(points)
    keep = np.zeros(len(points), dtype=bool)
    front = np.empty((0, points.shape[1]))
    for i in np.lexsort(points.T[::-1]):  # whoever dominates a point sorts before it
        is_dominated = ((front <= points[i]).all(axis=1) & (front < points[i]).any(axis=1)).any()
        if not is_dominated:
            keep[i] = True
            front = np.vstack([front, points[i]])
    return keep


def hypervolume(points: np.ndarray, reference: Sequence[float]) -> float:
    """Volume that ``points`` dominate within ``reference``, every axis to be minimised (negate a metric to maximise).

    Args:
        points: (n, axes); points that are not below the reference on every axis add nothing.
        reference: the worst value of each axis, finite.

    Raises:
        ValueError: the shapes do not fit, or a value is NaN or infinite.
    """
    corner = np.asarray(reference, dtype=float)
    inside = np.asarray(points, dtype=float).reshape(-1, len(corner)) if len(points) == 0 else np.asarray(points, float)
    if corner.ndim != 1 or inside.ndim != 2 or inside.shape[1] != len(corner):
        raise ValueError(f"points of shape {inside.shape} do not fit a reference of {corner.size} values")
    if not np.isfinite(inside).all() or not np.isfinite(corner).all():
        raise ValueError("points and reference must be finite")
    return _volume(inside[(inside < corner).all(axis=1)], corner)


def fronts(points: np.ndarray) -> np.ndarray:
    """For each of ``points`` (n, axes) the number of its front, (n,): 0 is dominated by none, 1 by those of 0 alone."""
    found = np.full(len(points), -1)
    front = 0
    while (left := np.flatnonzero(found < 0)).size:
        found[left[non_dominated(points[left])]] = front
        front += 1
    return found


def spread_order(points: np.ndarray) -> np.ndarray:
    """The rows of ``points`` (n, axes) in the order in which they are worth keeping, (n,).

    By their fronts, and within a front by what each adds alone: of two axes the hypervolume that would be lost without
    it (SMS-EMOA, Beume et al. 2007), of more the crowding distance (NSGA-II, Deb et al. 2002). Both are of ranks on
    each axis, so that no unit weighs more than another; the ends of a front come first; of equals the earlier row.
    """
    axes = points.shape[1]
    columns = [np.unique(points[:, axis], return_inverse=True)[1] for axis in range(axes)]
    ranks = np.stack(columns, axis=1).astype(float)
    front, added = fronts(ranks), np.zeros(len(points))
    for number in range(int(front.max(initial=-1)) + 1):
        rows = np.flatnonzero(front == number)
        added[rows] = _alone(ranks[rows])
    return np.lexsort([np.arange(len(points)), -added, front])


def _staircase(points: np.ndarray) -> np.ndarray:
    """:func:`non_dominated` of two axes: by the first, each must be lower than all before it; equals are kept."""
    order = np.lexsort(points.T[::-1])
    ordered = points[order]
    is_lower = ordered[:, 1] < np.minimum.accumulate(np.append(np.inf, ordered[:-1, 1]))[: len(points)]
    is_lower[:1] = True
    is_first = np.append(True, (ordered[1:] != ordered[:-1]).any(axis=1))[: len(points)]
    first_of_equals = np.maximum.accumulate(np.where(is_first, np.arange(len(points)), 0))
    keep = np.zeros(len(points), dtype=bool)
    keep[order] = is_lower[first_of_equals]
    return keep


def _alone(ranks: np.ndarray) -> np.ndarray:
    """What each point of a front (n, axes) adds: infinite at an end, nothing for any but the first of equal points."""
    points, first = np.unique(ranks, axis=0, return_index=True)
    to_lower, to_higher = np.full(points.shape, np.inf), np.full(points.shape, np.inf)
    for axis in range(points.shape[1]):
        order = np.argsort(points[:, axis], kind="stable")
        gaps = np.diff(points[order, axis])
        to_lower[order[1:], axis], to_higher[order[:-1], axis] = gaps, gaps
    added = np.zeros(len(ranks))
    # On two axes a front is a staircase: a point's own rectangle reaches to the next higher value of either.
    added[first] = to_higher.prod(axis=1) if points.shape[1] == 2 else (to_lower + to_higher).sum(axis=1)
    return added


def _volume(points: np.ndarray, corner: np.ndarray) -> float:
    """Slices along the last axis: between two neighbouring values the dominated part keeps its shape."""
    if len(points) == 0:
        return 0.0
    if points.shape[1] == 1:
        return float(corner[0] - points.min())
    points = points[np.argsort(points[:, -1])]
    tops = np.append(points[1:, -1], corner[-1])
    return math.fsum(
        _volume(points[: i + 1, :-1], corner[:-1]) * float(top - points[i, -1])
        for i, top in enumerate(tops)
        if top > points[i, -1]
    )
