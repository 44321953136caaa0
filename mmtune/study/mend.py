"""What is damaged or missing in a study's tables is filled in again from the rest of its folder, and said.

- reports.csv: a trial's ``last.safetensors`` holds all of its reports, ``best.safetensors`` that of its best epoch,
  Optuna's journal the objective of every epoch.
- trials.csv and changes.csv: Optuna's journal has every trial, its parameters and how it ended.

A folder that is whole is read and left as it is. A table that is not is kept as ``<name>.damaged``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmtune import records
from mmtune.records import StudyFolder
from mmtune.spec.search_spec import SearchSpec
from mmtune.study.ledger import open_ledger
from trainables.clock import PARTS, split
from trainables.files import unfinished, write_atomic

if TYPE_CHECKING:
    from pathlib import Path

Cells = dict[str, Any]  # a row of a CSV: text of what was there, values of what is filled in
_STATES = {"COMPLETE": records.COMPLETE, "PRUNED": records.PRUNED, "FAIL": records.FAILED, "RUNNING": records.RUNNING}


@dataclass(frozen=True)
class _Asked:
    """What Optuna knows of a trial that was handed out."""

    state: str
    params: Mapping[str, Any]  # as the space has them
    values: Mapping[int, float]  # of the objective by epoch; none with several objectives
    notes: Mapping[str, Any]  # user attributes

    @property
    def is_over(self) -> bool:
        return self.state != records.RUNNING


def mend_tables(folder: StudyFolder, spec: SearchSpec, info: Mapping[str, Any], say: Callable[[str], None]) -> None:
    """Fills in what reports.csv and trials.csv lack.

    Args:
        folder: the study, whose lock the caller holds.
        spec: what it searches.
        info: study.json.
        say: receives a line on what was damaged and what of it is back.

    Raises:
        ValueError: Optuna's journal, without which no study goes on, is damaged or gone.
    """
    (reports, num_damaged), (trials, num_lost), (changes, num_lost_changes) = map(
        _read, (folder.reports, folder.trials, folder.changes)
    )
    by_trial, num_damaged_trials = records.newest(trials, changes), num_lost + num_lost_changes
    if not num_damaged and not num_damaged_trials and _is_whole(folder, reports, by_trial):
        return
    asked = _asked(folder, spec, info)
    filled = _fill_reports(folder, spec, reports, by_trial, asked)
    if num_damaged or filled is not None:
        _keep_damaged(folder.reports, num_damaged)
        rows, lines = filled or (reports, [])
        if num_damaged:
            say(f"{folder.reports}: damaged lines: {num_damaged}, kept in {folder.reports.name}.damaged")
        for line in lines:
            say(line)
        columns = dict.fromkeys(name for row in [{"trial": "", "time": ""}, *rows] for name in row)
        write_atomic(folder.reports, records.csv_text(list(columns), rows))
        reports = rows
    found = _missing_trials(spec, reports, by_trial, asked)
    if found or num_damaged_trials:
        _keep_damaged(folder.trials, num_lost)
        _keep_damaged(folder.changes, num_lost_changes)
        rows = list((by_trial | {row["trial"]: row for row in found}).values())
        columns = dict.fromkeys(name for row in rows for name in row)
        write_atomic(folder.trials, records.csv_text(list(columns), rows))
        folder.changes.unlink(missing_ok=True)  # trials.csv has them
        ledger = open_ledger(folder, spec, info)
        ledger.write_trials()
        ledger.close()
        names = ", ".join(row["trial"] for row in found) or "no trial was lost"
        say(f"{folder.trials}: was damaged; filled in again from optuna.log: {names}")


def clear_unwritten(folder: StudyFolder) -> None:
    """Removes what a killed process had begun to write beside a file that it was to replace.

    Args:
        folder: the study, whose lock the caller holds.
    """
    for place in (folder.root, *folder.root.glob("trials/*")):
        for stale in unfinished(place):
            stale.unlink(missing_ok=True)


def _read(path: Path) -> tuple[list[Cells], int]:
    """The sound rows as text, and how many lines are not."""
    try:
        rows = records.read_csv(path)
    except ValueError:
        return [], max(1, path.read_bytes().count(b"\n") - 1)
    num_lines = max(0, path.read_bytes().count(b"\n") - 1) if path.exists() else 0
    return [dict(row) for row in rows], num_lines - len(rows)  # a cell has no line breaks


def _is_whole(folder: StudyFolder, reports: Iterable[Cells], trials: Mapping[str, Cells]) -> bool:
    epochs = _by_epoch(reports)
    for name, rows in epochs.items():
        if name not in trials or sorted(rows) != list(range(1, len(rows) + 1)):
            return False
    if any(int(row.get("epochs") or 0) > len(epochs.get(name, ())) for name, row in trials.items()):
        return False
    if any(row["state"] not in records.ENDED for row in trials.values()):
        return False  # perhaps an end was lost with a table: Optuna's journal knows
    return trials.keys() >= {path.name for path in folder.root.glob("trials/t*")}


def _by_epoch(reports: Iterable[Cells]) -> dict[str, dict[int, Cells]]:
    found: dict[str, dict[int, Cells]] = {}
    for row in reports:
        found.setdefault(row["trial"], {}).setdefault(int(row["epoch"]), row)
    return found


def _asked(folder: StudyFolder, spec: SearchSpec, info: Mapping[str, Any]) -> dict[str, _Asked]:
    from mmtune.search.journal import Journal
    from mmtune.space.optuna_names import from_optuna, is_full

    if not folder.optuna_log.is_file():
        raise ValueError(f"{folder.optuna_log}: is missing; the study cannot go on without it")
    names = [(item["metric"], item["mode"]) for item in info["objectives"]]
    asked = {}
    for trial in Journal(folder.optuna_log, name=spec.study, objectives=names).trials():
        if trial.state.name in _STATES and is_full(spec.space, trial.params):
            state, params = _STATES[trial.state.name], from_optuna(spec.space, trial.params)
            name, values = records.trial_id(trial.number), trial.intermediate_values
            asked[name] = _Asked(state, params, values, trial.user_attrs)
    return asked


def _fill_reports(
    folder: StudyFolder,
    spec: SearchSpec,
    reports: list[Cells],
    trials: Mapping[str, Cells],
    asked: Mapping[str, _Asked],
) -> tuple[list[Cells], list[str]] | None:
    """The rows with those that were missing, and what to say of them; None if none was."""
    epochs, lines, is_changed = _by_epoch(reports), [], False
    for name, trial in asked.items():
        known = epochs.setdefault(name, {})
        last = max(max(known, default=0), int(trials.get(name, {}).get("epochs") or 0))
        last = max(last, max(trial.values, default=0))
        missing = [epoch for epoch in range(1, last + 1) if epoch not in known]
        if not missing:
            continue
        is_changed, held = True, _held(folder, spec, name)
        known |= {epoch: held[epoch] for epoch in missing if epoch in held}
        lost = [epoch for epoch in missing if epoch not in held]
        if len(lost) < len(missing):
            lines.append(f"{name}: {_listed(set(missing) - set(lost))} filled in again from its checkpoint")
        if lost and not trial.is_over:
            for epoch in range(lost[0], last + 1):
                known.pop(epoch, None)
            lines.append(f"{name}: {_listed(lost)} in no checkpoint; trained again from epoch {lost[0]} on")
        elif lost:  # its checkpoint went when it ended
            metric = spec.objectives[0].metric
            known |= {epoch: {"epoch": epoch, metric: trial.values.get(epoch)} for epoch in lost}
            lines.append(f"{name}: {_listed(lost)} in no checkpoint; what is left is {metric}, from optuna.log")
    if not is_changed:
        return None
    rows: list[Cells] = []
    for row in [*reports, *({"trial": name, "epoch": max(known) + 1} for name, known in epochs.items() if known)]:
        known = epochs[row["trial"]]
        for epoch in sorted(epoch for epoch in known if epoch <= int(row["epoch"])):
            rows.append({"trial": row["trial"], **known.pop(epoch)})
    return rows, lines


def _held(folder: StudyFolder, spec: SearchSpec, trial: str) -> dict[int, Cells]:
    """The reports that a trial's checkpoints hold, with the time of its workers as far as they measured it."""
    from trainables.checkpoint import BEST, LAST, load_if_whole
    from trainables.resume import MIDDLE

    found: dict[int, Cells] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a damaged one: said when its trial goes on
        best, *others = (load_if_whole(folder.trial(trial) / name) for name in (BEST, MIDDLE, LAST))
    rows = [best[1]["report"]] if best else []
    rows += [row for found in others if found for row in found[1]["progress"]["reports"]]
    for row in rows:
        wall, share = sum(row.get(name) or 0.0 for name in PARTS), spec.resources.gpus_per_worker or 1.0
        parts = {name: (row.get(name) or 0.0) * share for name in PARTS}
        times = split(wall, devices=spec.resources.devices, parts=parts)
        found[row["epoch"]] = {key: value for key, value in row.items() if key not in records.TRIAL_FACTS} | times
    return found


def _missing_trials(
    spec: SearchSpec, reports: Iterable[Cells], trials: Mapping[str, Cells], asked: Mapping[str, _Asked]
) -> list[Cells]:
    """Lines of trials.csv for those that Optuna knows, and it does not."""
    rungs = spec.rules.rungs
    epochs, found = _by_epoch(reports), []
    for name, trial in asked.items():
        last = max(epochs.get(name, ()), default=0)
        has_end = name in trials and trials[name]["state"] in records.ENDED  # which it has before Optuna
        if (name in trials and (has_end or not trial.is_over)) or not (trial.is_over or last):
            continue
        state, notes, until = trial.state, trial.notes, None
        if state == records.RUNNING and last in rungs and last < spec.epochs:
            state, until = records.PAUSED, last
        elif notes.get("infeasible"):
            state = records.INFEASIBLE
        row: Cells = {**trials.get(name, {}), "trial": name, "state": state, "epochs": last}
        row |= {"until_epoch": until, "error": notes.get("error")}
        row |= {key: records.param_cell(value) for key, value in trial.params.items()}
        found.append(row | {key: notes[key] for key in records.TRIAL_FACTS if key in notes})
    return found


def _keep_damaged(path: Path, num_damaged: int) -> None:
    if num_damaged:
        write_atomic(path.with_name(f"{path.name}.damaged"), path.read_bytes())


def _listed(epochs: Iterable[int]) -> str:
    numbers = sorted(epochs)
    return f"epoch{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"
