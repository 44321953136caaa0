"""Which trials are worth their cost: the Pareto front, and the price of the next point.

A trial is on the front if no other is at least as good on every axis and strictly better on one. Trials at
the very same point are all kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.best import best_trial, numbers, usable_trials
from analysis.figures import (
    INK,
    axis_label,
    device_label,
    family_styles,
    is_pruned,
    legend,
    new_figure,
    plain,
    scale_x,
    trial_label,
    unit_of,
)
from analysis.studies import mode_of
from mmtune import records
from trainables.dominance import non_dominated

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINT = 0.01  # of the metric: one percentage point of accuracy
EXTRA = "extra_cost_per_point"


def pareto_front(
    table: pd.DataFrame, metric: str, cost: str | Sequence[str] = "device_seconds", *, mode: str | None = None
) -> pd.DataFrame:
    """The non-dominated COMPLETE, PRUNED and PAUSED trials, cheapest first; trials that lack a value are left out.

    Args:
        table: one row a trial.
        metric: what is gained.
        cost: what it takes; several make a front in as many more axes.
        mode: of the metric; None takes the metric's own direction.

    Raises:
        ValueError: an unknown metric or cost, or one of them twice.
    """
    costs = [cost] if isinstance(cost, str) else list(cost)
    trials, points = losses(table, metric, costs, mode=mode)
    front = trials.loc[non_dominated(points)]
    number = front.loc[:, "trial"].map(records.trial_number)
    order = np.lexsort([number, *(numbers(front, name) for name in reversed(costs))])
    return front.iloc[order]


def losses(
    table: pd.DataFrame, metric: str, cost: str | Sequence[str], *, mode: str | None = None
) -> tuple[pd.DataFrame, np.ndarray]:
    """The usable trials that have all values, and these, (trials, costs and metric): less is better on every axis.

    Raises:
        ValueError: an unknown metric or cost, or one of them twice.
    """
    axes = [*([cost] if isinstance(cost, str) else cost), metric]
    if len(set(axes)) < len(axes):
        raise ValueError(f"a front needs different axes, got {', '.join(axes)}")
    modes = [*map(mode_of, axes[:-1]), mode or mode_of(metric)]
    trials = usable_trials(table, *axes)
    return trials, np.column_stack([numbers(trials, name) for name in axes]) * [-1 if m == "max" else 1 for m in modes]


def marginal_cost(front: pd.DataFrame, metric: str, cost: str = "device_seconds") -> pd.DataFrame:
    """The front with a column ``extra_cost_per_point``: cost of 0.01 more of the metric, since the point before.

    Missing for the cheapest trial. Its last value answers "what does the last point of accuracy cost".

    Raises:
        ValueError: ``front`` is not a two-axis front of ``metric`` and ``cost``, cheapest first.
    """
    values, costs = numbers(front, metric).to_numpy(), numbers(front, cost).to_numpy()
    extra = [math.nan] * len(front)
    sign = 1 if len(front) == 0 or values[-1] >= values[0] else -1
    for i in range(1, len(front)):
        gain, more = sign * (values[i] - values[i - 1]), costs[i] - costs[i - 1]
        if gain == 0 and more == 0:  # the same point twice
            extra[i] = extra[i - 1]
        elif gain > 0 and more > 0:
            extra[i] = more / (gain / POINT)
        else:
            raise ValueError(f"not a front of {metric} against {cost}, cheapest first")
    return front.assign(**{EXTRA: extra})


def pareto_figure(table: pd.DataFrame, metric: str, cost: str = "device_seconds", *, mode: str | None = None) -> Figure:
    """Metric against cost of every usable trial; the front as a step line: the best to be had at that cost.

    Raises:
        ValueError: an unknown metric or cost, or no trial has both.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patheffects import withStroke

    front = pareto_front(table, metric, cost, mode=mode)
    trials = usable_trials(table, metric, cost)
    if len(front) == 0:
        raise ValueError(f"{', '.join(dict.fromkeys(table['study']))}: no finished trial has both {metric} and {cost}")
    figure, (axes,) = new_figure(1)
    unit = unit_of(cost, numbers(trials, cost))
    x, y = numbers(trials, cost) / unit.size, numbers(trials, metric)
    scale_x(axes, x.to_numpy())
    entries: list[tuple[Any, str]] = []
    for family, style in family_styles(table).items():
        for is_filled in (False, True):
            mine = (trials["family"] == family) & (is_pruned(trials) != is_filled)
            fill = style.colour if is_filled else "white"
            axes.scatter(x[mine], y[mine], s=36, marker=style.marker, c=fill, edgecolors=style.colour, zorder=3)
        if family in set(trials["family"]):
            entries.append((Line2D([], [], linestyle="", marker=style.marker, color=style.colour), family or "unknown"))
    if any(is_pruned(trials)):
        hollow = Line2D([], [], linestyle="", marker="o", markerfacecolor="white", color="0.45")
        entries.append((hollow, "hollow: stopped early"))

    edge = axes.get_xlim()[1]
    ends = np.append(x[front.index], edge), np.append(y[front.index], y[front.index[-1]])
    (line,) = axes.step(*ends, where="post", color=INK, linewidth=1.3, zorder=2)
    axes.set_xlim(right=edge)
    entries.append((line, "Pareto front"))

    goal = mode or mode_of(metric)
    best = best_trial(trials, metric, goal)
    at = best[cost] / unit.size, best[metric]
    axes.scatter(*at, s=130, facecolors="none", edgecolors=INK, linewidths=1.3, zorder=4)
    is_right = axes.transData.transform(at)[0] > axes.transAxes.transform((0.5, 0.5))[0]
    axes.annotate(
        plain(f"{trial_label(best, table)}: {best[metric]:.4f}"),
        at,
        xytext=(-9 if is_right else 9, 9 if goal == "max" else -16),
        textcoords="offset points",
        ha="right" if is_right else "left",
        fontsize=9,
        fontweight="bold",
        color=INK,
        path_effects=[withStroke(linewidth=3, foreground="white")],
    )
    axes.margins(y=0.12)
    axes.set_xlabel(device_label(cost, unit, trials))
    axes.set_ylabel(axis_label(metric))
    legend(figure, entries)
    return figure
