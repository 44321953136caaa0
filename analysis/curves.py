"""Learning curves: the objective against epochs and against device time spent, the best trials on top of all others.

The two panels tell different things: a trial that is ahead epoch for epoch may be behind at equal cost. Epochs that
a resumed trial trained again are drawn once, with their last value, at what the trial had really cost by then.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.best import rank_trials
from analysis.figures import axis_label, device_label, family_styles, legend, new_figure, scale_x, trial_label, unit_of
from analysis.studies import Paths, choose_objective, load_reports, load_studies, study_folders

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_OTHERS = 300  # curves of a family beside the best trials; of more every second, third, ... by rank is drawn
AXES = ("epoch", "cumulative_device_seconds")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)), (0, (9, 2)))


def load_curves(paths: Paths, metric: str) -> pd.DataFrame:
    """Columns study, trial, time, epoch, cumulative_device_seconds and the metric, one row an epoch that counts.

    Raises:
        ValueError: not a study, no report yet, or no report has the metric.
    """
    parts = []
    for study, folder in study_folders(paths).items():
        reports = load_reports(folder.root)
        if metric not in reports:
            raise ValueError(f"{folder.reports}: no report has {metric}")
        current = reports.loc[reports["is_current"], ["trial", "time", *AXES, metric]]
        current = current.astype({metric: "float64"}).assign(study=study)
        parts.append(current.loc[np.isfinite(current[metric].to_numpy())])
    curves = pd.concat(parts, ignore_index=True)
    if len(curves) == 0:
        raise ValueError(f"{', '.join(study_folders(paths))}: no report has a finite {metric} yet")
    return curves


def curves_figure(paths: Paths, metric: str | None = None, *, top: int = len(DASHES)) -> Figure:
    """The metric against epochs (left) and device time (right); the ``top`` best trials stand out.

    Args:
        paths: one study or several.
        metric: a column of reports.csv; None takes the studies' first objective.
        top: number of trials with a line of their own.

    Raises:
        ValueError: not a study, no report yet, or studies that cannot be ranked together.
    """
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    metric, mode = choose_objective(paths, metric)
    table = load_studies(paths)
    reports = load_curves(paths, metric)
    curves = _spans(reports)
    ranked = rank_trials(table, metric, mode).set_index(["study", "trial"], drop=False)
    leaders = [
        key for key, rank in zip(ranked.index, ranked["rank"], strict=True) if rank is not pd.NA and key in curves
    ]
    dashes = dict(zip(leaders[:top], itertools.cycle(DASHES), strict=False))
    family_of = dict(zip(ranked.index, ranked["family"], strict=True))
    others: dict[str, list[Any]] = {}
    for key in ranked.index:
        if key in curves and key not in dashes:
            others.setdefault(family_of[key], []).append(key)
    drawn = {family: keys[:: 1 + (len(keys) - 1) // MOST_OTHERS] for family, keys in others.items()}
    styles = family_styles(table)
    values = reports[metric].to_numpy()

    figure, panels = new_figure(2)
    for axes, column in zip(panels, AXES, strict=True):
        unit = unit_of(column, reports.loc[:, column])
        places = reports[column].to_numpy(dtype="float64")
        for family, style in styles.items():
            spans = [curves[key] for key in drawn.get(family, ())]
            x, y = _chained(spans, places), _chained(spans, values)
            axes.plot(
                x / unit.size, y, color=style.colour, alpha=0.22, linewidth=0.9, marker=style.marker, markersize=2
            )
        for key, dash in dashes.items():
            x, y = places[curves[key]] / unit.size, values[curves[key]]
            colour = styles[family_of[key]].colour
            axes.plot(x, y, color=colour, linestyle=dash, linewidth=1.9, zorder=4)
            peak = y.argmax() if mode == "max" else y.argmin()
            axes.plot(x[peak], y[peak], color=colour, marker="o", markersize=5.5, markeredgecolor="white", zorder=5)
        axes.set_xlabel(device_label(column, unit, table))
    panels[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    scale_x(panels[1], reports.loc[:, AXES[1]].to_numpy() / unit_of(AXES[1], reports.loc[:, AXES[1]]).size)
    panels[0].set_ylabel(axis_label(metric))

    entries: list[tuple[Any, str]] = []
    for key, dash in dashes.items():
        row = ranked.loc[key]
        line = Line2D([], [], color=styles[family_of[key]].colour, linestyle=dash, linewidth=1.9)
        entries.append((line, f"{trial_label(row, table)}  {family_of[key]}  {row[metric]:.4f}"))
    for family in sorted(others):
        style = styles[family]
        line = Line2D([], [], color=style.colour, alpha=0.4, linewidth=1.2, marker=style.marker, markersize=3.5)
        few = "" if drawn[family] == others[family] else f"{len(drawn[family])} of {len(others[family])} "
        entries.append((line, f"{few}other {family or 'unknown'} trials"))
    legend(figure, entries)
    return figure


def _spans(curves: pd.DataFrame) -> dict[Any, slice]:
    """Where the rows of each (study, trial) are: one after the other."""
    keys = list(zip(curves["study"], curves["trial"], strict=True))
    starts = [at for at, key in enumerate(keys) if at == 0 or key != keys[at - 1]]
    return {keys[begin]: slice(begin, end) for begin, end in itertools.pairwise([*starts, len(keys)])}


def _chained(spans: list[slice], values: np.ndarray) -> np.ndarray:
    """All curves as one line with gaps: one artist instead of thousands."""
    return np.concatenate([np.empty(0), *(part for span in spans for part in (values[span], [np.nan]))])
