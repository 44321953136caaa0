"""Families across studies of different data: a row a family, a column a study, each by the study's own objective."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.best import MEAN, SD, best_by_family, numbers, usable_trials
from analysis.confirm import confirm_table, tested_as
from analysis.studies import Paths, choose_objective, data_of, load_studies, study_folders
from analysis.tables import Table

_COLUMNS = ("data", "metric", "mode", "on", "family", "study", "trial", "value", "sd", "seeds", "is_best")


def by_data(paths: Paths) -> dict[str, list[Path]]:
    """Data and first objective -> the studies that have both, in the order given.

    Raises:
        ValueError: not a study.
    """
    found: dict[str, list[Path]] = {}
    for folder in study_folders(paths).values():
        metric, _ = choose_objective(folder.root)
        found.setdefault(f"{data_of(folder.root)}, {metric}", []).append(folder.root)
    return found


def across(paths: Paths) -> pd.DataFrame:
    """A row a family of each dataset (and target) that the studies train on, the best first.

    Columns: data, metric, mode (of the studies' first objective), on (test: finalists over their seeds; val: the best
    trial), family, study, trial, value, sd over seeds (missing of one), seeds, is_best. Values of different data are
    not compared: they stand side by side.

    Raises:
        ValueError: not a study, or one without a trial.
    """
    parts = []
    for group in by_data(paths).values():
        metric, mode = choose_objective(group)
        table = load_studies(group)
        found = confirm_table(table, metric, mode)
        test = tested_as(metric)
        if len(found) and not numbers(found, test).dropna().empty:
            own = found.drop_duplicates("family").rename(columns={test: "value", test + SD: "sd"}).assign(on="test")
        elif not usable_trials(table, metric).empty:
            own = best_by_family(table, metric, mode).rename(columns={metric + MEAN: "value", metric + SD: "sd"})
            own = own.loc[numbers(own, "value").notna()].assign(on="val")
        else:
            continue
        best = own["value"].max() if mode == "max" else own["value"].min()
        own = own.assign(data=data_of(group[0]), metric=metric, mode=mode, is_best=own["value"] == best)
        parts.append(own.loc[:, list(_COLUMNS)])
    if not parts:
        raise ValueError(f"{', '.join(study_folders(paths))}: no trial has ended well yet")
    return pd.concat(parts, ignore_index=True)


def across_table(rows: pd.DataFrame) -> Table:
    """:func:`across` as people read it: a line a family, a column for each data and metric; the best has a star."""
    own = rows.to_dict("records")
    columns = list(dict.fromkeys((row["data"], row["metric"], row["on"]) for row in own))
    cells = {(row["family"], row["data"], row["metric"], row["on"]): _cell(row) for row in own}
    families = dict.fromkeys(row["family"] for row in own)
    lines = [[family, *(cells.get((family, *column), "") for column in columns)] for family in families]
    return ["family", *(f"{data}: {metric.removeprefix('val_')} ({on})" for data, metric, on in columns)], lines


def _cell(row: dict[str, Any]) -> str:
    spread = "" if math.isnan(row["sd"]) else f" ± {row['sd']:.4f} ({row['seeds']})"
    return f"{row['value']:.4f}{spread}{' *' if row['is_best'] else ''}"
