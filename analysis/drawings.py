"""Figures by name from studies that are there, the papers' among them: a PNG or SVG file each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from analysis.best import best_trial, numbers, usable_trials
from analysis.curves import curves_figure
from analysis.figures import COLOURS, axis_label, drawn, legend, new_figure, trial_label
from analysis.pareto import pareto_figure
from analysis.studies import Paths, choose_objective, load_reports, load_studies, study_folders
from trainables.files import write_atomic
from trainables.messages import unknown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = (".png", ".svg")
MODE = "uda.mode"
_CASES = {"1": "#D55E00", "2": "#E69F00", "3": "#009E73"}  # red, yellow and green of the paper; others are grey


def draw(name: str, paths: Paths, out: Path, *, metric: str | None = None) -> None:
    """Writes a figure into ``out``, as a whole.

    Args:
        name: one of FIGURES.
        paths: one study or several on the same data.
        out: a .png or .svg file.
        metric: None takes the studies' first objective.

    Raises:
        ValueError: an unknown name or kind of file, or studies without what the figure shows.
    """
    if name not in FIGURES:
        raise ValueError(f"figure {unknown(name, tuple(FIGURES))}")
    if out.suffix not in KINDS:
        raise ValueError(f"--out: {out} has to end in {' or '.join(KINDS)}")
    figure = FIGURES[name](paths, *choose_objective(paths, metric))
    write_atomic(out, drawn(figure, out.suffix[1:]))


def fit_figure(paths: Paths, metric: str, mode: str) -> Figure:
    """Training (dotted) and validation by epoch, of the best trial for each mode of UDA, or of the best trial.

    Raises:
        ValueError: no report has the metric of the training rows.
    """
    from matplotlib.lines import Line2D

    table, trained = load_studies(paths), metric.replace("val_", "train_")
    rows = [best for _, best in _best_by_mode(table, metric, mode)]
    figure, (axes,) = new_figure(1)
    entries = []
    for row, colour in zip(rows, COLOURS, strict=False):
        reports = _reports(paths, row)
        if trained not in reports or numbers(reports, trained).isna().all():
            raise ValueError(f"{row['study']}/{row['trial']}: its reports have no {trained}")
        axes.plot(reports["epoch"], numbers(reports, trained), color=colour, linestyle=":")
        axes.plot(reports["epoch"], numbers(reports, metric), color=colour)
        said = f" uda.mode={row[MODE]}" if MODE in table else ""
        entries.append((Line2D([], [], color=colour), f"{trial_label(row, table)}  {row['family']}{said}"))
    entries.append((Line2D([], [], color="0.4", linestyle=":"), "on training rows"))
    axes.set_xlabel(axis_label("epoch"))
    axes.set_ylabel(axis_label(metric).removeprefix("Validation "))
    legend(figure, entries)
    return figure


def ratio_figure(paths: Paths, metric: str, mode: str) -> Figure:
    """R of dynamic UDA by epoch, coloured by its case: the best trial with it (Monter-Aldana et al. 2023, Fig. 5).

    Raises:
        ValueError: no trial with dynamic UDA has ended.
    """
    from matplotlib.lines import Line2D

    table = load_studies(paths)
    found = dict(_best_by_mode(table, metric, mode))
    if "dynamic" not in found:
        raise ValueError(f"{', '.join(study_folders(paths))}: no finished trial with uda.mode=dynamic in the space")
    reports = _reports(paths, found["dynamic"])
    figure, (axes,) = new_figure(1)
    axes.plot(reports["epoch"], numbers(reports, "uda_ratio"), color="0.8", zorder=1)
    cases = reports["uda_case"].astype(str)
    entries = []
    for case in sorted(set(cases)):
        colour, own = _CASES.get(case, "0.5"), reports.loc[cases == case]
        axes.scatter(own["epoch"], numbers(own, "uda_ratio"), color=colour, zorder=2)
        entries.append((Line2D([], [], linestyle="", marker="o", color=colour), f"case {case}"))
    axes.set_xlabel(axis_label("epoch"))
    axes.set_ylabel(f"R of {trial_label(found['dynamic'], table)}")
    legend(figure, entries)
    return figure


FIGURES: dict[str, Callable[[Paths, str, str], Figure]] = {
    "pareto": lambda paths, metric, mode: pareto_figure(load_studies(paths), metric, mode=mode),
    "curves": lambda paths, metric, mode: curves_figure(paths, metric),
    "fit": fit_figure,
    "ratio": ratio_figure,
}


def _best_by_mode(table: pd.DataFrame, metric: str, mode: str) -> list[tuple[str, pd.Series]]:
    """The best trial for each mode of UDA that was searched; the best of all under "" where none was."""
    if MODE not in table:
        return [("", best_trial(table, metric, mode))]
    usable = usable_trials(table, metric)
    kinds = sorted({str(kind) for kind in usable[MODE].dropna()})
    return [(kind, best_trial(usable.loc[usable[MODE] == kind], metric, mode)) for kind in kinds]


def _reports(paths: Paths, row: pd.Series) -> pd.DataFrame:
    """A trial's reports by epoch, those that count."""
    reports = load_reports(study_folders(paths)[str(row.at["study"])].root)
    return reports.loc[(reports["trial"] == row.at["trial"]) & reports["is_current"]].sort_values("epoch")
