"""What a Pareto front is worth: its volume, its knee, the best within a budget, and how it grew with what was spent.

Axes are scaled so that 0 is the best value that any trial reached and 1 the worst; shares are of the box between them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from analysis.best import best_trial, numbers, usable_trials
from analysis.curves import load_curves
from analysis.figures import trial_labels
from analysis.pareto import losses, pareto_front
from analysis.studies import Paths, mode_of
from mmtune import records
from trainables.dominance import hypervolume, non_dominated

PARTS = 10  # of what was spent, after each of which the front is told where that is short of two hours
MOST_HOURS = 24  # fronts of a longer search are told every 2, 4, 8, ... hours, so that there are no more than these
_GROWING = {"device_seconds": "cumulative_device_seconds", "epochs": "epoch"}  # what a trial had taken by a report
_KEYS = ["study", "trial"]


def front_share(table: pd.DataFrame, metric: str, cost: str | Sequence[str], *, mode: str | None = None) -> float:
    """Hypervolume of the front, as a share in [0, 1] of the box between the best and the worst value of each axis.

    NaN where no trial has all values, or all have the same on one axis.

    Raises:
        ValueError: an unknown metric or cost, or one of them twice.
    """
    return _share(losses(table, metric, cost, mode=mode)[1])


def knee(table: pd.DataFrame, metric: str, cost: str | Sequence[str], *, mode: str | None = None) -> pd.Series | None:
    """The trial of the front that is farthest below the plane through the front's ends, axes scaled to the front.

    That is the one with the smallest sum of scaled values (Das 1999); of equals the cheapest. None where the front has
    fewer than three different points, or where none is below that plane.

    Raises:
        ValueError: an unknown metric or cost, or one of them twice.
    """
    front = pareto_front(table, metric, cost, mode=mode)
    place = _bend(losses(front, metric, cost, mode=mode)[1])
    return None if place is None else front.iloc[place]


def best_under_budget(
    table: pd.DataFrame, metric: str, cost: str, limit: float, *, mode: str | None = None
) -> pd.Series | None:
    """The best trial whose ``cost`` is at most ``limit``, in the cost's own unit; None if there is none.

    Raises:
        ValueError: an unknown metric or cost.
    """
    mode_of(cost)
    trials = usable_trials(table, metric, cost)
    trials = trials.loc[numbers(trials, cost) <= limit]
    return None if trials.empty else best_trial(trials, metric, mode or mode_of(metric))


def cheapest_within_delta(
    table: pd.DataFrame, metric: str, cost: str, delta: float, *, mode: str | None = None
) -> pd.Series | None:
    """The cheapest trial whose metric is at most ``delta`` worse than the best; of equally cheap ones the best.

    None if no trial has both values.

    Raises:
        ValueError: an unknown metric or cost.
    """
    axes = losses(table, metric, cost, mode=mode)
    trials, (price, loss) = axes[0], axes[1].T
    if trials.empty:
        return None
    near = np.flatnonzero(loss <= loss.min() + delta * (1 + 1e-12))
    return trials.iloc[near[np.lexsort([loss[near], price[near]])[0]]]


def front_history(
    paths: Paths,
    table: pd.DataFrame,
    metric: str,
    costs: str | Sequence[str],
    *,
    mode: str | None = None,
    parts: int | None = None,
) -> pd.DataFrame:
    """The fronts as they were after each hour of the device time that the trials took: what more budget bought.

    A trial counts with its best value so far; of device time and epochs with what it had taken by then, of other costs
    with what it has in the end. Trials that failed in the end count never. The last row of a cost is the front now.

    Columns: cost, cost_unit, spent_share, device_hours (spent by then), trials (that had reported), front_trials (their
    number), the metric (the best by then), hypervolume (share of one box for all rows of a cost), knee, front.

    Args:
        paths: the studies.
        table: what ``load_studies`` returns of them.
        metric: what is gained.
        costs: what it takes; each has fronts of its own.
        mode: of the metric; None takes its own direction.
        parts: in how many the device time is cut; None takes hours, from 24 on every second, fourth, ... of them, and
            tenths where trials took less than two hours.

    Raises:
        ValueError: an unknown metric or cost, or no report yet.
    """
    goal = mode or mode_of(metric)
    places = {key: place for place, key in enumerate(_keys(table))}
    labels, numbers_of = np.array(trial_labels(table, table), dtype=object), table["trial"].map(records.trial_number)
    reports = _in_time(load_curves(paths, metric), metric, goal)
    whose = np.array([places.get(key, -1) for key in _keys(reports)], dtype=int)
    spent, best_by_then = reports["spent"].to_numpy(), reports[metric].to_numpy()
    sign, order = (-1 if goal == "max" else 1), numbers_of.to_numpy()
    rows = []
    for cost in [costs] if isinstance(costs, str) else costs:
        trials, ended = losses(table, metric, cost, mode=goal)
        in_the_end = np.full((len(table), 2), np.nan)
        in_the_end[table.index.get_indexer(trials.index)] = ended
        by_then = reports[_GROWING[cost]].to_numpy(dtype=float) if cost in _GROWING else in_the_end[whose, 0]
        is_known = (whose >= 0) & ~np.isnan(in_the_end[whose]).any(axis=1)
        moments = []
        for share, limit in _shares(spent[is_known].max(initial=0.0), parts):
            then = np.flatnonzero(is_known & (spent <= limit * (1 + 1e-12)))
            at, places_from_end = np.unique(whose[then][::-1], return_index=True)
            last = then[::-1][places_from_end]  # the last report of each
            points = np.column_stack([by_then[last], sign * best_by_then[last]])
            if share == 1:
                at, points = table.index.get_indexer(trials.index), ended
            moments.append((share, limit / 3600, at, points))
        corners = np.concatenate([points for *_, points in moments])
        for share, hours, at, points in moments:
            front = np.flatnonzero(non_dominated(points))
            front = front[np.lexsort([order[at[front]], points[front, 0]])]
            bend = _bend(points[front])
            rows.append(
                {
                    "cost": cost, "cost_unit": records.COSTS[cost].unit, "spent_share": share, "device_hours": hours,
                    "trials": len(at), "front_trials": len(front),
                    metric: sign * points[:, 1].min() if len(points) else np.nan,
                    "hypervolume": _share(points, corners),
                    "knee": "" if bend is None else labels[at[front[bend]]], "front": " ".join(labels[at[front]]),
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def _shares(seconds: float, parts: int | None) -> list[tuple[float, float]]:
    """The moments at which a front is told, the last being the end: shares of ``seconds``, and seconds."""
    if parts is None and seconds >= 2 * 3600:
        step = 3600.0
        while seconds > step * MOST_HOURS:
            step *= 2
        return [*((step * n / seconds, step * n) for n in range(1, math.ceil(seconds / step))), (1.0, seconds)]
    parts = parts or PARTS
    return [(part / parts, seconds * part / parts) for part in range(1, parts + 1)]


def _keys(frame: pd.DataFrame) -> Iterator[tuple[str, str]]:
    return zip(*(frame[name].tolist() for name in _KEYS), strict=True)


def _bend(points: np.ndarray) -> int | None:
    """The row of a front's ``points`` (n, axes), less being better, that is its knee."""
    if len(np.unique(points, axis=0)) < 3:
        return None
    span = points.max(axis=0) - points.min(axis=0)
    sums = ((points - points.min(axis=0)) / np.where(span > 0, span, 1.0)).sum(axis=1)
    place = int(sums.argmin())
    return place if sums[place] < 1 - 1e-9 else None


def _in_time(curves: pd.DataFrame, metric: str, mode: str) -> pd.DataFrame:
    """Reports in the order of their times, each trial's best value so far, and what all had ``spent`` by then."""
    curves = curves.sort_values("time", kind="stable", ignore_index=True)
    before = curves.groupby(_KEYS, sort=False)["cumulative_device_seconds"].shift(fill_value=0.0)
    best = curves.groupby(_KEYS, sort=False)[metric]
    return curves.assign(
        spent=(curves["cumulative_device_seconds"] - before).cumsum(),
        **{metric: best.cummax() if mode == "max" else best.cummin()},
    )


def _share(points: np.ndarray, among: np.ndarray | None = None) -> float:
    """Of the box around ``among`` (the points themselves) that ``points`` (n, axes) dominate; less is better."""
    box = points if among is None else among
    if len(box) == 0:
        return float("nan")
    low, high = box.min(axis=0), box.max(axis=0)
    if not (high > low).all():
        return float("nan")
    scaled = (points - low) / (high - low)
    return hypervolume(scaled[non_dominated(scaled)], [1.0] * points.shape[1])
