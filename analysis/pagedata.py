"""What report.html draws: the numbers behind its table and its charts, as one value that becomes JSON.

Trials are told by their place in ``trials``, best first; every other part refers to these places. Numbers are rounded
to six digits: the CSV files beside the page have them all.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd

from analysis.best import numbers, rank_trials
from analysis.curves import MOST_OTHERS, load_curves
from analysis.figures import axis_label, family_styles, trial_labels, unit_of
from analysis.importance import importances
from analysis.reading import values
from analysis.studies import Paths, mode_of
from mmtune import records

_RUNGS = 12
_COLUMNS = ("label", "state", "family", "epochs", "best_epoch")


def page_data(
    paths: Paths, table: pd.DataFrame, fronts: pd.DataFrame, histories: pd.DataFrame, *, metric: str, mode: str
) -> dict[str, Any]:
    """The page's data.

    Args:
        paths: the studies.
        table: what ``load_studies`` returns of them.
        fronts: the rows of pareto.csv.
        histories: the rows of fronts.csv.
        metric: ranks the trials.
        mode: of the metric, 'max' or 'min'.
    """
    ranked = rank_trials(table, metric, mode).reset_index(drop=True)
    places = {key: place for place, key in enumerate(zip(ranked["study"], ranked["trial"], strict=True))}
    costs = [name for name in dict.fromkeys(fronts["cost"]) if name in ranked]
    params = [name for name in table.attrs.get("params", ()) if name in ranked]
    ranked = ranked.assign(label=trial_labels(ranked, table))
    columns = list(dict.fromkeys(["rank", *_COLUMNS, metric, *costs, *params]))
    return {
        "metric": {"name": metric, "label": axis_label(metric), "mode": mode},
        "trials": {name: _cells(ranked.loc[:, name]) for name in columns},
        "errors": {str(place): error for place, error in enumerate(ranked["error"]) if error},
        "params": params,
        "costs": {name: _cost(name, ranked, fronts, places) for name in costs},
        "colours": {family: style.colour for family, style in family_styles(table).items()},
        "curves": _curves(paths, ranked, places, metric),
        "rungs": rungs(table),
        "importance": _rows(importances(table, metric, mode)),
        "survival": _rows(survival(table)),
        "spending": _rows(spending(table)),
        "history": _rows(histories.rename(columns={metric: "value"}).drop(columns="front")),
    }


def rungs(table: pd.DataFrame) -> list[int]:
    """Epochs at which trials were paused or pruned, as far as they are few: the rungs of the schedule."""
    stopped = table.loc[table["state"].isin((records.PAUSED, records.PRUNED))]
    found = sorted({int(epoch) for epoch in numbers(stopped, "epochs").dropna() if epoch > 0})
    return found if len(found) <= _RUNGS else []


def survival(table: pd.DataFrame) -> pd.DataFrame:
    """How many trials of each family trained at least so many epochs, a row a family and rung; the last is the most
    that any trial trained."""
    epochs = numbers(table, "epochs").fillna(0)
    marks = sorted({1, *rungs(table), int(epochs.max())}) if len(table) else []
    return pd.DataFrame(
        [
            {"family": family, "epochs": mark, "trials": int((own >= mark).sum())}
            for family, own in epochs.groupby(table["family"])
            for mark in marks
        ],
        columns=["family", "epochs", "trials"],
    )


def spending(table: pd.DataFrame) -> pd.DataFrame:
    """Device-hours of the trials by family and state, and how many there are; a row for each that occurs."""
    groups = table.assign(device_hours=numbers(table, "device_hours")).groupby(["family", "state"], sort=True)
    sums = groups["device_hours"].sum(), groups["device_hours"].size()
    return pd.DataFrame({"device_hours": sums[0], "trials": sums[1]}).reset_index()


def _cost(name: str, ranked: pd.DataFrame, fronts: pd.DataFrame, places: dict[Any, int]) -> dict[str, Any]:
    own = fronts.loc[fronts["cost"] == name]
    unit = unit_of(name, numbers(ranked, name))
    keys = list(zip(own["study"], own["trial"], strict=True))
    at_knee = [places[key] for key, is_knee in zip(keys, own["is_knee"], strict=True) if is_knee]
    return {
        "label": axis_label(name, unit),
        "size": unit.size,
        "unit": records.COSTS[name].unit,
        "mode": mode_of(name),
        "front": [places[key] for key in keys],
        "knee": at_knee[0] if at_knee else None,
        "caution": str(own["caution"].iloc[0]) if len(own) else "",
    }


def _curves(paths: Paths, ranked: pd.DataFrame, places: dict[Any, int], metric: str) -> dict[str, Any]:
    """Place -> epochs, device-seconds by then, values; of many trials of a family every second, third, ... by rank."""
    curves = load_curves(paths, metric)
    keys = list(zip(curves["study"], curves["trial"], strict=True))
    starts = [at for at, key in enumerate(keys) if at == 0 or key != keys[at - 1]]
    spans = {places[keys[a]]: slice(a, b) for a, b in itertools.pairwise([*starts, len(keys)]) if keys[a] in places}
    kept: set[int] = set()
    families: dict[str, list[int]] = {}
    for place in sorted(spans):
        families.setdefault(str(ranked["family"].iloc[place]), []).append(place)
    for own in families.values():
        kept.update(own[:5], own[:: 1 + (len(own) - 1) // MOST_OTHERS])
    epochs, seconds, points = (
        curves[name].to_numpy(dtype=float) for name in ("epoch", "cumulative_device_seconds", metric)
    )
    drawn = {
        str(place): [[int(epoch) for epoch in epochs[spans[place]]], _short(seconds[spans[place]]),
                     _short(points[spans[place]])]
        for place in sorted(kept)
    }  # fmt: skip
    return {"drawn": drawn, "all": len(spans)}


def _rows(table: pd.DataFrame) -> dict[str, list[Any]]:
    return {str(name): _cells(table.loc[:, str(name)]) for name in table.columns}


def _cells(column: pd.Series) -> list[Any]:
    """Plain values, None where missing or not finite."""
    return [_number(value) if isinstance(value, float) else value for value in values(column)]


def _short(cells: np.ndarray) -> list[Any]:
    return [_number(value) for value in cells.tolist()]


def _number(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None
