"""Study folders as pandas tables: one row a trial, one row a report, and what a study cost in all.

trials.csv says how a trial ended, reports.csv what it did epoch by epoch. A study may be read while it runs
or after it was killed, so a trial that has not ended takes its numbers from reports.csv, and a trial that
trials.csv does not know yet counts as RUNNING. Each file alone is a lower bound of what a trial cost: reports.csv
lacks what came after a last report, trials.csv may be older. Costs are all reports and what trials.csv had beside them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from analysis.reading import column, read_reports, read_rows, stamp
from analysis.reported import Reported
from mmtune import records
from trainables.messages import did_you_mean
from trainables.metrics import metric_mode, objective_names

Paths = str | Path | Sequence[str | Path]

FIRST_COLUMNS = ("study", "trial", "state", "family", "epochs", "best_epoch")
LAST_COLUMNS = ("device_hours", "error", "started", "ended")
_Stamps = tuple[tuple[int, int] | None, ...]


@dataclass(frozen=True)
class StudyCost:
    """What a study took: all its trials, those that were pruned, failed or cut short included, and its caches."""

    device_hours: float  # of trials and caches
    cache_hours: float  # the part of them that filled caches
    idle_hours: float  # device-hours beside them in which slots started, waited and ended; of sessions that ended well
    wall_hours: float  # summed over trials, which run side by side: not the time that passed
    epochs: int  # of all trials, each counted once
    states: dict[str, int]  # number of trials in each state that occurs
    test_looks: int  # how often its models were evaluated on the test split: by `mmtune test`, or as finalists


def load_studies(paths: Paths) -> pd.DataFrame:
    """One row a trial of one or several studies.

    Columns: study, trial, state, family, epochs, best_epoch, the params of all studies, metrics at the best
    epoch, costs, device_hours, error ("" for none), started and ended. A value that a trial does not have is
    missing (NaN, NA or None). ``table.attrs["params"]`` lists the param columns, ``table.attrs["families"]`` all
    families that the studies may sample. ``study`` is the folder's name, or its path as given where two folders share
    a name.

    Raises:
        ValueError: a path is no study, is given twice, or holds no trial yet.
    """
    named = tuple(study_folders(paths).items())
    return _read_studies(named, tuple(_stamps(folder) for _, folder in named)).copy()


@lru_cache(maxsize=8)
def _read_studies(named: tuple[tuple[str, records.StudyFolder], ...], of: tuple[_Stamps, ...]) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    params: dict[str, None] = {}
    families: dict[str, None] = {}
    for study, folder in named:
        trials = _trial_rows(folder)
        if not trials:
            raise ValueError(f"{folder.root}: no trial yet")
        rows += [{**row, "study": study} for row in trials]
        params |= dict.fromkeys(_info(folder).get("params", ()))
        families |= dict.fromkeys(_families(_spec(folder)))
    for row in rows:
        row["device_hours"] = None if row.get("device_seconds") is None else row["device_seconds"] / 3600
    names = dict.fromkeys([*FIRST_COLUMNS, *params, *(name for row in rows for name in row)])
    middle = [name for name in names if name not in LAST_COLUMNS]
    table = pd.DataFrame({name: column(name, [row.get(name) for row in rows]) for name in [*middle, *LAST_COLUMNS]})
    table.attrs["params"] = [name for name in params if name != "family"]
    table.attrs["families"] = list(families)
    return table


def load_reports(path: str | Path) -> pd.DataFrame:
    """One row per report of a study, as written, with two more columns.

    ``cumulative_device_seconds`` is what the trial had cost by then. ``is_current`` is False for an epoch
    that a resumed trial trained again: it was paid for, but the later row is the one that counts.

    Raises:
        ValueError: not a study, or no trial has reported yet.
    """
    folder = records.open_study(path)
    table = read_reports(folder.reports)
    if table.empty:
        raise ValueError(f"{folder.root}: no trial has reported an epoch yet")
    return table.copy()


def study_cost(path: str | Path) -> StudyCost:
    """Cost of a study: all trials in whatever state, its caches, and idle slots; zero before the first report.

    Raises:
        ValueError: not a study.
    """
    folder = records.open_study(path)
    rows = _trial_rows(folder)
    caches = math.fsum(row["device_seconds"] for row in records.read_rows(folder.caches)) / 3600
    idle = math.fsum(session.get("idle_device_seconds", 0.0) for session in _info(folder).get("sessions", ()))
    hours = {name: math.fsum(row.get(name) or 0.0 for row in rows) / 3600 for name in records.SUMS}
    states = Counter(row["state"] for row in rows)
    tested = [name for name in {name for row in rows for name in row} if name.startswith(records.TEST)]
    return StudyCost(
        device_hours=hours["device_seconds"] + caches,
        cache_hours=caches,
        idle_hours=idle / 3600,
        wall_hours=hours["wall_seconds"],
        epochs=sum(row["epochs"] or 0 for row in rows),
        states={state: states[state] for state in records.STATES if states[state]},
        test_looks=len(records.read_csv(folder.tested))
        + sum(any(row.get(name) is not None for name in tested) for row in rows),
    )


def objectives(path: str | Path) -> list[tuple[str, str]]:
    """(metric, mode) of each objective of a study, the first being what "best" means.

    Raises:
        ValueError: not a study, or its study.json is damaged.
    """
    return _objectives(records.open_study(path))


def fixed_of(path: str | Path) -> dict[str, Any]:
    """What a study's search file fixes for all trials: ``fixed:``, flat.

    Raises:
        ValueError: not a study.
    """
    return dict(_spec(records.open_study(path)).get("fixed") or {})


def data_of(path: str | Path) -> str:
    """What a study trains on: the dataset, and the target where the search file names one.

    Raises:
        ValueError: not a study.
    """
    return _data_of(_spec(records.open_study(path)))


def choose_objective(paths: Paths, metric: str | None = None) -> tuple[str, str]:
    """(metric, mode) by which the trials of these studies can be ranked together.

    Args:
        paths: one study or several.
        metric: None takes the studies' first objective.

    Raises:
        ValueError: the studies train on different data, differ in their first objective while no metric
            is given, or the metric is unknown.
    """
    folders = study_folders(paths)
    specs = {study: _spec(folder) for study, folder in folders.items()}
    data = {study: _data_of(spec) for study, spec in specs.items()}
    if len(set(data.values())) > 1:
        raise ValueError(f"studies of different data cannot be ranked together: {_listed(data)}")
    goals = {study: _objectives(folder) for study, folder in folders.items()}
    if metric is None:
        firsts = {study: goal[0] for study, goal in goals.items()}
        if len(set(firsts.values())) > 1:
            shown = _listed({study: f"{name} ({mode})" for study, (name, mode) in firsts.items()})
            raise ValueError(f"the studies have different objectives, name the metric to rank by: {shown}")
        return next(iter(firsts.values()))
    modes = {mode for goal in goals.values() for name, mode in goal if name == metric}
    return metric, modes.pop() if len(modes) == 1 else mode_of(metric)


def mode_of(name: str) -> str:
    """'max' or 'min': which way a metric or a cost improves.

    Raises:
        ValueError: neither a metric nor a cost.
    """
    metrics = objective_names()
    if name in metrics:
        return metric_mode(name)
    if name not in records.COSTS:
        hint = did_you_mean(name, (*metrics, *records.COSTS)) or "."
        raise ValueError(f"'{name}' is unknown{hint} Metrics: {', '.join(metrics)}. Costs: {', '.join(records.COSTS)}")
    return records.COSTS[name].mode


def study_folders(paths: Paths) -> dict[str, records.StudyFolder]:
    """Each study under the name it has in tables: its folder's, or its path where two folders share a name.

    Raises:
        ValueError: no path, not a study, or one study twice.
    """
    given = [paths] if isinstance(paths, (str, Path)) else list(paths)
    if not given:
        raise ValueError("no study given")
    folders = [records.open_study(path) for path in given]
    for root, count in Counter(folder.root for folder in folders).items():
        if count > 1:
            raise ValueError(f"{root}: given twice")
    shared = Counter(folder.name for folder in folders)
    return {
        str(path) if shared[folder.name] > 1 else folder.name: folder
        for path, folder in zip(given, folders, strict=True)
    }


def _trial_rows(folder: records.StudyFolder) -> tuple[dict[str, Any], ...]:
    """What is known of each trial, in the order of their numbers; not to be changed."""
    return _read_trials(folder, _stamps(folder))


def _stamps(folder: records.StudyFolder) -> _Stamps:
    """What changes with the tables of a study."""
    return tuple(map(stamp, (folder.trials, folder.changes, folder.reports, folder.spec, folder.info)))


@lru_cache(maxsize=8)  # a command asks for the same studies several times
def _read_trials(folder: records.StudyFolder, of: _Stamps) -> tuple[dict[str, Any], ...]:
    metric, mode = _objectives(folder)[0]
    family = _spec(folder).get("family")
    ended = records.newest(read_rows(folder.trials), read_rows(folder.changes))
    reports = Reported(read_reports(folder.reports), metric, mode)
    rows = []
    for trial in dict.fromkeys([*ended, *reports.trials]):
        row: dict[str, Any] = {"trial": trial, "state": records.RUNNING} | ended.get(trial, {})
        if not row.get("family") and isinstance(family, str):
            row["family"] = family
        if row["state"] not in records.ENDED:
            row |= reports.summary(trial)
        times = reports.times(trial)
        beside = records.unreported(row, times)
        for name in records.SUMS:
            known = [time[name] for time in times if time[name] is not None]
            costs = [beside[name]] if name in beside else []
            costs += [math.fsum(known)] if known else []
            row[name] = math.fsum(costs) if costs else None
        cached = row.get("cache_seconds")
        row[records.ALONE] = None if cached is None else (row["device_seconds"] or 0.0) + cached
        rows.append(row)
    return tuple(sorted(rows, key=lambda row: records.trial_number(row["trial"])))


def _info(folder: records.StudyFolder) -> dict[str, Any]:
    return records.read_info(folder.info, is_whole=False)


def _spec(folder: records.StudyFolder) -> dict[str, Any]:
    try:
        spec = yaml.safe_load(folder.spec.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{folder.spec}: not valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(spec, dict):
        raise ValueError(f"{folder.spec}: holds no search file")
    return spec


def _families(spec: dict[str, Any]) -> list[str]:
    """What a search file says of ``family``: a name, or a domain of names."""
    said = spec.get("family")
    names = said.get("choices") if isinstance(said, dict) else [said]
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _objectives(folder: records.StudyFolder) -> list[tuple[str, str]]:
    listed = _info(folder).get("objectives")
    if not isinstance(listed, list) or not listed:
        raise ValueError(f"{folder.info}: names no objectives")
    return [(goal["metric"], goal["mode"]) for goal in listed]


def _data_of(spec: dict[str, Any]) -> str:
    fixed = spec.get("fixed") or {}
    said = [str(fixed[key]) for key in ("target", "positive_class") if fixed.get(key)]
    return str(spec.get("dataset")) + (f" ({', '.join(said)})" if said else "")


def _listed(facts: dict[str, str]) -> str:
    return ", ".join(f"{study}: {fact}" for study, fact in facts.items())
