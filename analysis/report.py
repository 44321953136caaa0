"""The report of one study or several: CSV tables, best.yaml, two pictures, and one HTML page that holds it all.

Everything is computed before the first file is written, each file is replaced as a whole, and a second run
gives the same files. report.html needs no other file and no network: pictures are embedded, text is escaped.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis import confirm
from analysis.best import best_by_family, best_trial, best_yaml, numbers, rank_trials, usable_trials
from analysis.curves import curves_figure
from analysis.devices import warning
from analysis.figures import axis_label, png, trial_label
from analysis.fronts import front_history, knee
from analysis.pareto import EXTRA, marginal_cost, pareto_figure, pareto_front
from analysis.studies import Paths, choose_objective, load_studies, study_cost, study_folders
from analysis.tables import Table, cost_note, escaped, family_table, html_table, pareto_table, shown, study_table
from analysis.tidy import csv_text
from mmtune import records
from trainables.files import write_atomic

NUM_SHOWN = 50  # rows of the HTML page's trial tables; summary.csv has all
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; font-size: 13px; display: block; overflow-x: auto; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #e4e4e4; text-align: left; vertical-align: top; }
th { border-bottom: 1px solid #888; } td.number { text-align: right; font-variant-numeric: tabular-nums; }
td.params { font-family: ui-monospace, monospace; font-size: 12px; }
img { max-width: 100%; } pre { background: #f6f6f6; padding: .8rem; overflow-x: auto; font-size: 12px; }
"""


@dataclass(frozen=True)
class ReportFiles:
    """Where the parts of a report are."""

    summary: Path  # one row a trial, best first
    families: Path
    pareto: Path  # the front of the metric against each cost
    fronts: Path  # the same as they were after each part of the device time
    best: Path  # the best trial's config, for `mmtune train`
    best_by_family: Path  # a folder with the best trial's config of each family
    pareto_png: Path
    curves_png: Path
    html: Path
    confirm: Path | None = None  # a row a finalist, where the study repeats some


def write_report(
    paths: Paths, out: str | Path | None = None, metric: str | None = None, cost: str = "device_seconds"
) -> ReportFiles:
    """Writes summary.csv, families.csv, pareto.csv, fronts.csv, best.yaml, best/<family>.yaml, pareto.png, curves.png
    and report.html; confirm.csv of finalists. docs/report.md has their columns.

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
    histories = [front_history(paths, metric, name, mode=mode) for name in costs]
    confirmed = confirm.confirm_table(table, metric, mode)
    page = _page(
        paths=paths,
        table=table,
        confirmed=confirmed,
        metric=metric,
        mode=mode,
        cost=cost,
        best=best,
        pictures=pictures,
        config=config,
    )
    for name, data in {
        "summary.csv": csv_text(rank_trials(table, metric, mode)),
        "families.csv": csv_text(best_by_family(table, metric, mode)),
        "pareto.csv": csv_text(_fronts(table, metric, mode, costs)),
        "fronts.csv": csv_text(pd.concat(histories, ignore_index=True)),
        "best.yaml": config,
        **_best_by_family(paths, table, metric, mode),
        **({confirm.FILE: csv_text(confirmed)} if len(confirmed) else {}),
        **pictures,
        "report.html": page,
    }.items():
        write_atomic(root / name, data)
    return ReportFiles(
        summary=root / "summary.csv",
        families=root / "families.csv",
        pareto=root / "pareto.csv",
        fronts=root / "fronts.csv",
        best=root / "best.yaml",
        best_by_family=root / "best",
        pareto_png=root / "pareto.png",
        curves_png=root / "curves.png",
        html=root / "report.html",
        confirm=root / confirm.FILE if len(confirmed) else None,
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


def _page(
    *,
    paths: Paths,
    table: pd.DataFrame,
    confirmed: pd.DataFrame,
    metric: str,
    mode: str,
    cost: str,
    best: pd.Series,
    pictures: dict[str, bytes],
    config: str,
) -> str:
    title = ", ".join(study_folders(paths))
    ended_badly = table.loc[table["error"] != ""]
    parts = [
        f"<h1>{escaped(title)}</h1>",
        f"<p>Best: <b>{escaped(trial_label(best, table))}</b> ({escaped(best['family'])}), "
        f"{escaped(metric)} <b>{shown(metric, float(best.at[metric]))}</b> after {escaped(best['best_epoch'])} of "
        f"{escaped(best['epochs'])} epochs, {best['device_seconds']:.1f} device seconds.</p>",
        html_table(_cost_table(paths)),
        *_finalists(confirmed, metric),
        f"<h2>{escaped(axis_label(metric))} against cost</h2>",
        _image(pictures["pareto.png"], "Pareto front"),
        f"<p>{escaped(cost_note(table, metric, cost))}</p>",
        "<p>No other trial is at least as good and cheaper, or better at the same cost:</p>",
        html_table(pareto_table(table, metric, mode, cost=cost)),
        "<h2>Learning curves</h2>",
        _image(pictures["curves.png"], "Learning curves"),
        "<h2>Families</h2>",
        html_table(family_table(table, metric, mode)),
        f"<h2>Trials</h2>{_note(table)}",
        html_table(study_table(table, metric, mode, NUM_SHOWN)),
    ]
    if len(ended_badly):
        rows = [[trial_label(row, table), row["state"], row["error"]] for _, row in ended_badly.iterrows()]
        parts += [f"<h2>Errors</h2>{_note(ended_badly)}", html_table((["trial", "state", "error"], rows[:NUM_SHOWN]))]
    parts += ["<h2>The best config</h2>", f"<pre>{escaped(config)}</pre>"]
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escaped(title)}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _finalists(confirmed: pd.DataFrame, metric: str) -> list[str]:
    """The section on finalists, where there are some."""
    if confirmed.empty:
        return []
    table, note = confirm.finalist_table(confirmed, metric), confirm.confirm_note(confirmed)
    return ["<h2>Finalists</h2>", f"<p>{escaped(note)}</p>", html_table(table)]


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


def _note(rows: pd.DataFrame) -> str:
    return f"<p>The first {NUM_SHOWN} of {len(rows)}; summary.csv has all.</p>" if len(rows) > NUM_SHOWN else ""


def _image(data: bytes, alt: str) -> str:
    return f'<img alt="{escaped(alt)}" src="data:image/png;base64,{base64.b64encode(data).decode()}">'
