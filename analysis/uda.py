"""What UDA did, epoch by epoch (Monter-Aldana et al. 2023, figs. 3 to 5): training against validation, and the ratio R.

A trial's mode of UDA, its lambda and its views are what its parameters say, else what the study fixes, else a config's
defaults. Curves that are compared are of one family: that of the best trial with dynamic UDA, if there is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.best import best_trial, numbers, usable_trials
from analysis.figures import COLOURS, INK, axis_label, legend, new_figure, plain, trial_label
from analysis.studies import Paths, fixed_of, load_reports, load_studies, study_folders

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MODE, LAM, VIEWS = "uda.mode", "uda.lam", "uda.views"
_DEFAULTS = {MODE: "none", LAM: 1.0, VIEWS: "both"}
_CASES = {"1": "#D55E00", "2": "#E69F00", "3": "#009E73"}  # red, yellow and green of the paper; others are grey
_SPLITS = ("validation", "training rows")


class NotThere(ValueError):
    """The studies lack what a figure shows; the message says what."""


def with_uda(paths: Paths, table: pd.DataFrame) -> pd.DataFrame:
    """The table with MODE, LAM and VIEWS as each trial had them, whether they were searched, fixed or left alone."""
    fixed = {study: fixed_of(folder.root) for study, folder in study_folders(paths).items()}
    found = {}
    for name, default in _DEFAULTS.items():
        usual = pd.Series([fixed[study].get(name, default) for study in table["study"]], index=table.index)
        found[name] = table[name].where(table[name].notna(), usual) if name in table else usual
    return table.assign(**found)


def fit_figure(paths: Paths, metric: str, mode: str) -> Figure:
    """Training (dotted) and validation by epoch, of the best trial for each mode of UDA.

    Raises:
        NotThere: no report has the metric of the training rows.
    """
    from matplotlib.lines import Line2D

    table = load_studies(paths)
    rows = _best_by_mode(with_uda(paths, table), metric, mode)
    figure, (axes,) = new_figure(1)
    entries = []
    for (kind, row), colour in zip(rows.items(), COLOURS, strict=False):
        reports = _fitted(paths, row, metric)
        _draw(axes, reports, metric, (colour, colour), ("-", ":"))
        said = f" uda.mode={kind}" if len(rows) > 1 else ""
        entries.append((Line2D([], [], color=colour), f"{trial_label(row, table)}  {row['family']}{said}"))
    entries.append((Line2D([], [], color="0.4", linestyle=":"), "on training rows"))
    _name(axes, metric)
    legend(figure, entries)
    return figure


def regimes_figure(paths: Paths, metric: str, mode: str) -> Figure:
    """Training and validation by epoch under a small, a large and a dynamic lambda, a panel each (fig. 3).

    Small and large are the smallest and the largest lambda of the trials with ``uda.mode: fixed`` of the family that
    trained for at least half as long as the longest of them: an early stop would say nothing of a fit.

    Raises:
        NotThere: no such trials, or no report has the metric of the training rows.
    """
    from matplotlib.lines import Line2D

    table = load_studies(paths)
    fixed, last = _beside_dynamic(paths, table, "fixed", metric, mode)
    epochs, lams = numbers(fixed, "epochs"), numbers(fixed, LAM)
    long = fixed.loc[epochs >= epochs.max() / 2]
    if lams.loc[long.index].nunique() < 2:
        long = fixed
    if lams.loc[long.index].nunique() < 2:
        raise NotThere(f"{_named(paths)}: all trials of {last['family']} with uda.mode=fixed have the same uda.lam")
    ends = (lams.loc[long.index].min(), lams.loc[long.index].max())
    rows = [best_trial(long.loc[lams.loc[long.index] == lam], metric, mode) for lam in ends]
    titles = [f"small: λ = {float(ends[0]):.3g}", f"large: λ = {float(ends[1]):.3g}", "dynamic λ"]
    figure, panels = new_figure(3)
    figure.set_size_inches(11, 4)
    for axes, row, title in zip(panels, [*rows, last], titles, strict=True):
        _draw(axes, _fitted(paths, row, metric), metric, COLOURS[:2], ("-", "-"))
        axes.set_title(plain(f"{title}  ({trial_label(row, table)})"), fontsize=10, color=INK)
        _name(axes, metric if axes is panels[0] else "")
    legend(figure, [(Line2D([], [], color=colour), said) for colour, said in zip(COLOURS, _SPLITS, strict=False)])
    return figure


def overlay_figure(paths: Paths, metric: str, mode: str) -> Figure:
    """Training and validation of a family's best trial without UDA (dotted) and with dynamic UDA (solid; fig. 4).

    Raises:
        NotThere: no family has both, or no report has the metric of the training rows.
    """
    from matplotlib.lines import Line2D

    table = load_studies(paths)
    base, solid = _beside_dynamic(paths, table, "none", metric, mode)
    dotted = best_trial(base, metric, mode)
    figure, (axes,) = new_figure(1)
    entries = [(Line2D([], [], color=colour), said) for colour, said in zip(COLOURS, _SPLITS, strict=False)]
    kinds: tuple[tuple[pd.Series, Any, str], ...] = ((dotted, ":", "without UDA"), (solid, "-", "dynamic UDA"))
    for row, line, said in kinds:
        _draw(axes, _fitted(paths, row, metric), metric, COLOURS[:2], (line, line))
        name = f"{said}: {trial_label(row, table)}  {row['family']}"
        entries.append((Line2D([], [], color="0.4", linestyle=line), name))
    _name(axes, metric)
    legend(figure, entries)
    return figure


def ratio_figure(paths: Paths, metric: str, mode: str) -> Figure:
    """R of dynamic UDA by epoch, coloured by its case: the best trial with it (fig. 5).

    Raises:
        NotThere: no trial with dynamic UDA has ended.
    """
    from matplotlib.lines import Line2D

    table = load_studies(paths)
    found = _best_by_mode(with_uda(paths, table), metric, mode)
    if "dynamic" not in found:
        raise NotThere(f"{_named(paths)}: no finished trial with uda.mode=dynamic")
    reports = _reports(paths, found["dynamic"])
    if "uda_case" not in reports or numbers(reports, "uda_ratio").isna().all():
        raise NotThere(f"{trial_label(found['dynamic'], table)}: its reports have no uda_ratio and uda_case")
    figure, (axes,) = new_figure(1)
    axes.plot(reports["epoch"], numbers(reports, "uda_ratio"), color="0.8", zorder=1)
    cases = reports["uda_case"].astype(str)
    entries = []
    for case in sorted(set(cases)):
        colour, own = _CASES.get(case, "0.5"), reports.loc[cases == case]
        axes.scatter(own["epoch"], numbers(own, "uda_ratio"), color=colour, zorder=2)
        entries.append((Line2D([], [], linestyle="", marker="o", color=colour), f"case {case}"))
    axes.set_xlabel(axis_label("epoch"))
    axes.set_ylabel(f"R of {plain(trial_label(found['dynamic'], table))}")
    legend(figure, entries)
    return figure


def _beside_dynamic(
    paths: Paths, table: pd.DataFrame, kind: str, metric: str, mode: str
) -> tuple[pd.DataFrame, pd.Series]:
    """Finished trials of another mode of UDA, and the best one with dynamic UDA, of that one's family.

    Raises:
        NotThere: no family has both.
    """
    usable = usable_trials(with_uda(paths, table), metric)
    others, dynamic = (usable.loc[usable[MODE] == name] for name in (kind, "dynamic"))
    shared = set(others["family"]) & set(dynamic["family"])
    if not shared:
        raise NotThere(f"{_named(paths)}: no family has finished trials with uda.mode={kind} and with dynamic")
    best = best_trial(dynamic.loc[dynamic["family"].isin(shared)], metric, mode)
    return others.loc[others["family"] == best["family"]], best


def _best_by_mode(table: pd.DataFrame, metric: str, mode: str) -> dict[str, pd.Series]:
    """The best trial for each mode of UDA that some trial had."""
    usable = usable_trials(table, metric)
    if usable.empty:
        best_trial(table, metric, mode)  # says why
    return {kind: best_trial(usable.loc[usable[MODE] == kind], metric, mode) for kind in sorted(set(usable[MODE]))}


def _fitted(paths: Paths, row: pd.Series, metric: str) -> pd.DataFrame:
    """A trial's reports with the metric of validation and of the training rows.

    Raises:
        NotThere: the training rows have none.
    """
    reports, name = _reports(paths, row), _trained(metric)
    if name not in reports or numbers(reports, name).isna().all():
        raise NotThere(f"{row['study']}/{row['trial']}: its reports have no {name}")
    return reports


def _reports(paths: Paths, row: pd.Series) -> pd.DataFrame:
    """A trial's reports by epoch, those that count."""
    reports = load_reports(study_folders(paths)[str(row.at["study"])].root)
    return reports.loc[(reports["trial"] == row.at["trial"]) & reports["is_current"]].sort_values("epoch")


def _trained(metric: str) -> str:
    return metric.replace("val_", "train_")


def _draw(axes: Axes, reports: pd.DataFrame, metric: str, colours: Sequence[str], lines: Sequence[Any]) -> None:
    """Validation and training of a trial, in this order."""
    for name, colour, line in zip((metric, _trained(metric)), colours, lines, strict=True):
        axes.plot(reports["epoch"], numbers(reports, name), color=colour, linestyle=line)


def _name(axes: Axes, metric: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel(axis_label("epoch"))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if metric:
        label = axis_label(metric).removeprefix("Validation ")
        axes.set_ylabel(label[:1].upper() + label[1:])


def _named(paths: Paths) -> str:
    return ", ".join(study_folders(paths))
