"""Finalists over their seeds: means with their spread and interval, and the probability that each is the best.

A study of finalists (``finalists:`` in its search file) trains each on every seed, chooses the epoch on validation and
looks at the test split once a trial. Trials that have not been tested, since they failed or are still to come, are not
in any mean. docs/methods.md#confirmation.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.best import numbers
from analysis.student import interval, probability_best
from analysis.tables import Table
from mmtune import records
from trainables.files import write_atomic

FINALIST = "finalist"  # the column of a study's table that says which configuration a trial repeats
BEST = "probability_best"
FILE = "confirm.csv"


def finalists_of(table: pd.DataFrame) -> pd.DataFrame:
    """The trials of a table from ``load_studies`` that repeat a finalist."""
    return table.loc[table[FINALIST].notna()] if FINALIST in table else table.iloc[:0]


def confirm_table(table: pd.DataFrame, metric: str, mode: str) -> pd.DataFrame:
    """One row a finalist, the best mean on the test split first; empty where nothing is repeated.

    Columns: the study and trial that it was chosen from, family, seeds (trials that were tested), failed; of the metric
    on the test split and on validation the mean, ``_sd`` (ddof = 1), ``_low`` and ``_high`` (95 % t-interval of the
    mean); ``probability_best`` of the mean on the test split; mean and ``_sd`` of all other test metrics.

    Args:
        table: what ``load_studies`` returns.
        metric: the objective, such as val_accuracy.
        mode: of the metric, 'max' or 'min'.
    """
    trials, test = finalists_of(table), tested_as(metric)
    if trials.empty:
        return pd.DataFrame()
    is_other = [name.startswith(records.TEST) and not name.endswith("_left_out") for name in trials.columns]
    others = [name for name in trials.columns[is_other] if name != test]
    rows, values = [], []
    for key, group in trials.groupby(["study", FINALIST], sort=False):
        tested = group.loc[numbers(group, test).map(math.isfinite)]
        study, trial = _chosen_from(str(key[1]))  # pyright: ignore[reportIndexIssue]
        num_failed = sum(state in (records.FAILED, records.INFEASIBLE) for state in group["state"])
        row: dict[str, Any] = {"study": study, "trial": trial, "family": group["family"].iloc[0]}
        row |= {"seeds": len(tested), "failed": num_failed}
        for name in (test, metric):
            row |= _spread(numbers(tested, name).tolist(), name, has_interval=True)
        row[BEST] = math.nan
        for name in others:
            row |= _spread(numbers(tested, name).dropna().tolist(), name, has_interval=False)
        rows.append(row)
        values.append(numbers(tested, test).tolist())
    found = pd.DataFrame(rows).assign(**{BEST: probability_best(values, mode)})
    return found.sort_values([test, "study", "trial"], ascending=[mode == "min", True, True], ignore_index=True)


def tested_as(metric: str) -> str:
    """The metric of validation on the test split: test_accuracy of val_accuracy."""
    return records.TEST + metric.removeprefix("val_")


def finalist_table(confirmed: pd.DataFrame, metric: str) -> Table:
    """What :func:`confirm_table` gives, for people: mean ± standard deviation, interval, probability."""
    test = tested_as(metric)
    header = ["finalist", "family", "seeds", f"{test} ± sd", "95 % interval", f"{metric} ± sd", "best with probability"]
    rows = []
    for row in _dicts(confirmed):
        name = f"{row['study']}/{row['trial']}" if row["study"] else row["trial"]
        failed = f", {row['failed']} failed" if row["failed"] else ""
        interval_ = "" if math.isnan(row[f"{test}_low"]) else f"{_of(row, test, '_low')} to {_of(row, test, '_high')}"
        best = "" if math.isnan(row[BEST]) else f"{row[BEST]:.3f}"
        cells = [f"{row['seeds']}{failed}", _with_sd(row, test), interval_, _with_sd(row, metric), best]
        rows.append([name, row["family"], *cells])
    return header, rows


def confirm_note(confirmed: pd.DataFrame) -> str:
    """How often the test split was looked at, and what the figures are."""
    looks = sum(row["seeds"] for row in _dicts(confirmed))
    return (
        f"The test split was looked at {looks} times, once by each trial at its end. Standard deviations are over "
        "seeds; intervals and probabilities are of the mean over all seeds there could be."
    )


def write_confirm(table: pd.DataFrame, metric: str, mode: str, folder: Path) -> pd.DataFrame:
    """Writes confirm.csv into ``folder`` and returns what is in it."""
    confirmed = confirm_table(table, metric, mode)
    write_atomic(folder / FILE, confirmed.to_csv(index=False))
    return confirmed


def _spread(values: list[float], name: str, *, has_interval: bool) -> dict[str, float]:
    found = {name: math.fsum(values) / len(values) if values else math.nan}
    found[f"{name}_sd"] = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    if has_interval:
        found[f"{name}_low"], found[f"{name}_high"] = interval(values)
    return found


def _chosen_from(finalist: str) -> tuple[str, str]:
    """('demo', 't0007') of 'demo/t0007'; a name that is no trial's has no study."""
    study, _, trial = finalist.rpartition("/")
    return (study, trial) if study and re.fullmatch(r"t\d+", trial) else ("", finalist)


def _dicts(table: pd.DataFrame) -> list[dict[str, Any]]:
    return table.to_dict("records")  # pyright: ignore[reportReturnType] (says that a key could be any Hashable)


def _with_sd(row: dict[str, Any], name: str) -> str:
    mean = _of(row, name, "")
    return mean if math.isnan(row[f"{name}_sd"]) else f"{mean} ± {row[f'{name}_sd']:.4f}"


def _of(row: dict[str, Any], name: str, part: str) -> str:
    return "" if math.isnan(row[name + part]) else f"{row[name + part]:.4f}"
