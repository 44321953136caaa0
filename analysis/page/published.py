"""What papers report on a dataset, beside the best that a study measured; never mixed: each has a column of its own.

published.csv has every result table of Ak et al., Monter-Aldana et al. 2023, its authors' notebook and the project's
notes, as shares: source, table, dataset, model, family (mmtune's), variant, input, metric, value, sd over seeds.
"""

from __future__ import annotations

from importlib.resources import files

import pandas as pd

from analysis.best import numbers, rank_trials, usable_trials
from analysis.confirm import tested_as
from analysis.figures import trial_label
from analysis.tables import Table
from trainables.metrics import metric_mode

_TEXT = ("source", "table", "dataset", "model", "family", "variant", "input", "metric")
_UDA = {"Base": "none", "UDA fixed": "fixed"}


def published(dataset: str | None = None) -> pd.DataFrame:
    """The rows of published.csv, of one dataset or all; ``value`` and ``sd`` are shares, ms of ``inference_ms_*``."""
    with files("analysis.page").joinpath("published.csv").open(encoding="utf-8") as file:
        rows = pd.read_csv(file, dtype=dict.fromkeys(_TEXT, "str")).fillna(dict.fromkeys(_TEXT, ""))
    return rows if dataset is None else rows.loc[rows["dataset"] == dataset].reset_index(drop=True)


def beside_own(table: pd.DataFrame, dataset: str) -> Table | None:
    """Each published row of the dataset, and the study's own best trial of that family and variant; None without rows.

    A trial's value is that of the test split where it was tested, else of validation, and ``on`` says so. Rows of
    augmentation alone, or of an input that was left out, have no counterpart among trials.
    """
    rows = published(dataset)
    if rows.empty:
        return None
    speed = published("")  # of a whole table, not of one dataset
    rows = pd.concat([rows, speed.loc[speed["source"].isin(rows["source"])]], ignore_index=True)
    header = ["source", "table", "model", "variant", "input", "metric", "published", "own", "on", "trial", "difference"]
    lines = []
    for cells in rows.to_dict("records"):
        sd = "" if pd.isna(cells["sd"]) else f" ± {cells['sd']:.4f}"
        own = _own(table, cells)
        lines.append(
            [str(cells[name]) for name in header[:6]]
            + [f"{cells['value']:.4f}{sd}"]
            + (["", "", "", ""] if own is None else [f"{own[0]:.4f}", *own[1:], f"{own[0] - cells['value']:+.4f}"])
        )
    return header, lines


def _own(table: pd.DataFrame, cells: dict) -> tuple[float, str, str] | None:
    variant = str(cells["variant"])
    trials = table.loc[table["family"] == cells["family"]]
    is_whole = cells["input"] in ("both", cells["family"])
    if not is_whole or variant == "Aug":
        return None
    kind = _UDA.get(variant, "dynamic" if variant.startswith("UDA dynamic") else None)
    if kind is not None:
        said = trials["uda.mode"] if "uda.mode" in trials else pd.Series("none", index=trials.index)
        trials = trials.loc[said == kind]
    validated = f"val_{cells['metric']}"
    for name, split in ((tested_as(validated), "test"), (validated, "val")):
        usable = usable_trials(trials, name)
        if not usable.empty:
            best = rank_trials(usable, name, metric_mode(name)).iloc[0]
            return float(numbers(usable, name).loc[best.name]), split, trial_label(best, table)
    return None
