"""The report of one study or several: CSV tables, best.yaml, two pictures, and one HTML page that holds it all.

Everything is computed before the first file is written, each file is replaced as a whole, and a second run
gives the same files. report.html (analysis/page) needs no other file and no network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis import confirm, planned
from analysis.best import best_by_family, best_trial, best_yaml, numbers, rank_trials, usable_trials
from analysis.characteristics import model_table
from analysis.curves import curves_figure
from analysis.devices import warning
from analysis.figures import png
from analysis.fronts import front_history, knee
from analysis.missing import missing_modalities
from analysis.page.pictures import FOLDER, own_pictures
from analysis.page.render import render
from analysis.pagedata import page_data
from analysis.pareto import EXTRA, marginal_cost, pareto_figure, pareto_front
from analysis.studies import Paths, choose_objective, load_studies, study_cost, study_folders
from analysis.tables import Table, shown
from analysis.tidy import csv_text
from mmtune import records
from trainables.files import write_atomic


@dataclass(frozen=True)
class ReportFiles:
    """Where the parts of a report are."""

    summary: Path  # one row a trial, best first
    families: Path
    pareto: Path  # the front of the metric against each cost
    fronts: Path  # the same as they were after each part of the device time
    models: Path  # what the best model of each family is
    importance: Path  # of each parameter, over all trials and in each family
    best: Path  # the best trial's config, for `mmtune train`
    best_by_family: Path  # a folder with the best trial's config of each family
    pareto_png: Path
    curves_png: Path
    html: Path
    planned: Path | None = None  # what the study was thought to take, beside what it took
    confirm: Path | None = None  # a row a finalist, where the study repeats some
    missing: Path | None = None  # models without a modality, where `mmtune test --without` looked
    figures: Path | None = None  # a folder with the sources' figures, PNG and SVG, those that there are data for


def write_report(
    paths: Paths, out: str | Path | None = None, metric: str | None = None, cost: str = "device_seconds"
) -> ReportFiles:
    """Writes summary.csv, families.csv, pareto.csv, fronts.csv, best.yaml, best/<family>.yaml, pareto.png, curves.png
    and report.html; where there is something to say planned.csv, confirm.csv, missing.csv and figures/.
    docs/report.md has their columns.

    Args:
        paths: one study or several that train on the same data.
        out: the folder to write into; None takes <study>/report and needs a single study.
        metric: ranks the trials; None takes the studies' first objective.
        cost: what the page's Pareto front sets against the metric, one of records.COSTS; pareto.csv has all.

    Raises:
        ValueError: not a study, nothing finished yet, several studies without ``out``, an unknown metric or
            cost, or studies that cannot be ranked together.
    """
    folders = study_folders(paths)
    if out is None and len(folders) > 1:
        raise ValueError(f"{len(folders)} studies given: name the folder to write their report into")
    root = next(iter(folders.values())).report if out is None else Path(out)
    metric, mode = choose_objective(paths, metric)
    table = load_studies(paths)
    best = best_trial(table, metric, mode)
    pictures = {
        "pareto.png": png(pareto_figure(table, metric, cost, mode=mode)),
        "curves.png": png(curves_figure(paths, metric)),
    }
    config = best_yaml(paths, best, metric, mode, "best.yaml")
    costs = [name for name in dict.fromkeys([cost, *records.COSTS]) if name != metric]
    costs = [name for name in costs if not usable_trials(table, metric, name).empty]
    history = front_history(paths, table, metric, costs, mode=mode)
    confirmed = confirm.confirm_table(table, metric, mode)
    plans = planned.planned_table(paths)
    fronts = _fronts(table, metric, mode, costs)
    models = model_table(paths, table, metric, mode)
    without = missing_modalities(paths, metric, mode)
    figures = own_pictures(paths, metric, mode)
    data = page_data(paths, table, fronts, history, metric=metric, mode=mode)
    page = render(
        paths,
        table,
        data,
        metric=metric,
        mode=mode,
        cost=cost,
        best=best,
        costs=_cost_table(paths),
        plans=plans,
        models=models,
        missing=without,
        pictures=figures,
        root=root,
        config=config,
    )
    for name, content in {
        "summary.csv": csv_text(rank_trials(table, metric, mode)),
        "families.csv": csv_text(best_by_family(table, metric, mode)),
        "pareto.csv": csv_text(fronts),
        "fronts.csv": csv_text(history),
        "models.csv": csv_text(models),
        "importance.csv": csv_text(pd.DataFrame(data["importance"])),
        "best.yaml": config,
        **_best_by_family(paths, table, metric, mode),
        **({planned.FILE: csv_text(plans)} if len(plans) else {}),
        **({confirm.FILE: csv_text(confirmed)} if len(confirmed) else {}),
        **({"missing.csv": csv_text(without)} if len(without) else {}),
        **pictures,
        **figures,
        "report.html": page,
    }.items():
        write_atomic(root / name, content)
    return ReportFiles(
        summary=root / "summary.csv",
        families=root / "families.csv",
        pareto=root / "pareto.csv",
        fronts=root / "fronts.csv",
        models=root / "models.csv",
        importance=root / "importance.csv",
        best=root / "best.yaml",
        best_by_family=root / "best",
        pareto_png=root / "pareto.png",
        curves_png=root / "curves.png",
        html=root / "report.html",
        planned=root / planned.FILE if len(plans) else None,
        confirm=root / confirm.FILE if len(confirmed) else None,
        missing=root / "missing.csv" if len(without) else None,
        figures=root / FOLDER if figures else None,
    )


def _fronts(table: pd.DataFrame, metric: str, mode: str, costs: Sequence[str]) -> pd.DataFrame:
    """The rows of pareto.csv: for each cost the trials of its front, cheapest first."""
    parts = []
    for cost in costs:
        front = marginal_cost(pareto_front(table, metric, cost, mode=mode), metric, cost)
        at = knee(table, metric, cost, mode=mode)
        said = {
            "cost": cost,
            "cost_unit": records.COSTS[cost].unit,
            "cost_value": numbers(front, cost),
            EXTRA: front[EXTRA],
            "is_knee": [at is not None and place == at.name for place in front.index],
            "caution": warning(usable_trials(table, metric, cost), cost) or "",
        }
        parts.append(pd.DataFrame(said, index=front.index).join(front.drop(columns=EXTRA)))
    return pd.concat(parts, ignore_index=True)


def _best_by_family(paths: Paths, table: pd.DataFrame, metric: str, mode: str) -> dict[str, str]:
    """The config of the best trial of each family that has one, by the file's name below report/."""
    found = {}
    for family, trials in usable_trials(table, metric).groupby("family"):
        if str(family).isidentifier():
            name = f"best/{family}.yaml"
            found[name] = best_yaml(paths, best_trial(trials, metric, mode), metric, mode, name)
    return found


def _cost_table(paths: Paths) -> Table:
    costs = {study: study_cost(folder.root) for study, folder in study_folders(paths).items()}
    hours = ("device_hours", "cache_hours", "idle_hours")
    header = ["study", "trials", "states", "device_hours", "of which caches", "idle device_hours"]
    header += ["looks at the test split"]
    rows = [
        [study, str(sum(cost.states.values())), _states(cost.states)]
        + [shown("device_hours", getattr(cost, name)) for name in hours]
        + [str(cost.test_looks)]
        for study, cost in costs.items()
    ]
    if len(rows) > 1:
        trials = sum(sum(cost.states.values()) for cost in costs.values())
        totals = [math.fsum(getattr(cost, name) for cost in costs.values()) for name in hours]
        rows.append(["all", str(trials), "", *(shown("device_hours", total) for total in totals), ""])
    return header, rows


def _states(states: dict[str, int]) -> str:
    return ", ".join(f"{count} {state.lower()}" for state, count in states.items())
