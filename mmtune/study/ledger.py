"""The ledger of a study: what is known of its trials, kept in reports.csv, trials.csv and TensorBoard as it happens.

It is rebuilt from reports.csv and trials.csv on resume; a report that it already has is left out, so no
(trial, epoch) is ever written twice. trials.csv is written whole, which takes the longer the more trials there are: so
in a large study changed rows go to changes.csv first, and trials.csv has them once they are a twentieth of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mmtune import records
from mmtune.records import StudyFolder
from mmtune.search.trials import TrialRecord, Trials
from mmtune.slots.messages import Spent
from mmtune.spec.search_spec import SearchSpec
from mmtune.study.reports import read_reports
from mmtune.study.tensorboard import EventFiles, Kind, param_kinds
from trainables.files import check_there, write_atomic

_TIME_COLUMNS = (*records.SUMS, records.ALONE)
_COST_COLUMNS = (*_TIME_COLUMNS, records.DEVICE, "samples_per_second", *records.PEAKS, *records.TRIAL_FACTS)
_ROWS_A_CHANGE = 20  # of trials.csv are written anew for each row that has changed, or fewer
_LAST_COLUMNS = ("until_epoch", "error", "started", "ended")


class Ledger:
    """Everything that happened to the trials of a study, and the files that say so.

    Args:
        folder: the study.
        objective: metric and mode that decide a trial's best epoch.
        params: what is searched, the columns of trials.csv.
        max_epochs: the most a trial can train.
        limits: cost -> the most that a trial may have of it.
    """

    def __init__(
        self,
        folder: StudyFolder,
        *,
        objective: tuple[str, str],
        params: Mapping[str, Kind],
        max_epochs: int,
        limits: Mapping[str, float] | None = None,
    ) -> None:
        self.folder, self.params = folder, params
        metric, mode = objective
        self.trials = Trials(metric=metric, mode=mode, max_epochs=max_epochs, limits=limits)
        self._csv = records.CsvAppender(folder.reports)
        self._caches = records.CsvAppender(folder.caches)
        self._events = EventFiles(folder.tensorboard, params)
        self._changes = records.CsvAppender(folder.changes)
        self._num_changes = 0  # since trials.csv was written
        self._columns: list[str] = []  # of trials.csv
        self._lines: dict[str, str] = {}  # of trials.csv by trial, as long as they have not changed
        self._is_begun = folder.trials.exists()
        self._load()
        if folder.changes.exists():  # of a session that was killed
            self.write_trials()

    def start(self, trial: str, params: Mapping[str, Any], *, until: int | None = None) -> TrialRecord:
        """A trial begins, or goes on from where it was paused or cut short, up to the epoch ``until``."""
        record = self.trials.start(trial, dict(params), until=until)
        record.started = record.started or records.now()
        self._write(trial)
        return record

    def add(self, trial: str, row: Mapping[str, Any]) -> bool:
        """One epoch's report; False if it was already there."""
        record = self.trials[trial]
        if row["epoch"] <= record.epoch:
            return False
        row = dict(row)
        facts = {key: row.pop(key) for key in records.TRIAL_FACTS if key in row}
        if facts:  # which reports.csv does not have; first, as they come with this report alone
            record.facts |= facts
            self._write(trial)
        self._check_there()
        self._csv.append({"trial": trial, "time": records.now(), **row})
        record.add(row)
        self._lines.pop(trial, None)
        self._events.add(record, row)
        return True

    def pause(self, trial: str) -> None:
        """A trial has come to the epoch that it was given."""
        record = self.trials[trial]
        record.state = records.PAUSED
        self._events.pause(record)
        self._write(trial)

    def end(
        self,
        trial: str,
        state: str,
        *,
        facts: Mapping[str, Any] | None = None,
        error: str | None = None,
        traceback: str | None = None,
    ) -> None:
        """A trial is over."""
        record = self.trials[trial]
        record.state, record.ended = state, records.now()
        record.facts |= dict(facts or {})
        if error is not None:
            record.error = error.strip().splitlines()[0] if error.strip() else "unknown error"
            self._check_there()
            write_atomic(self.folder.trial(trial) / "error.txt", (traceback or error) + "\n")
        self._events.end(record, metric=self.trials.metric, mode=self.trials.mode)
        self._write(trial)

    def reopen(self, trial: str) -> None:
        """A trial that failed goes on as one that was cut short."""
        record = self.trials[trial]
        record.state, record.error, record.ended = records.RUNNING, None, None
        (self.folder.trial(trial) / "error.txt").unlink(missing_ok=True)
        self._write(trial)

    def book(self, spent: Spent) -> None:
        """What the slots' time went into beside reports."""
        for filling in spent.fillings:
            self._caches.append(filling)
            self.trials.cache_device_seconds += filling["device_seconds"]
        for trial, times in spent.unreported:
            self.trials[trial].hold(times)
            self._write(trial)

    def row(self, trial: TrialRecord) -> dict[str, Any]:
        """A trial's line of trials.csv: parameters, metrics at its best epoch, costs, how it ended."""
        best = self.trials.best_row(trial) or {}
        rows = trial.rows
        speed = [row["samples_per_second"] for row in rows if row.get("samples_per_second")]
        return {
            "trial": trial.trial,
            "state": trial.state,
            "epochs": trial.epoch,
            "best_epoch": best.get("epoch"),
            **{key: records.param_cell(value) for key, value in trial.params.items()},
            **{key: value for key, value in best.items() if key.startswith("val_")},
            **{column: trial.total(column) for column in _TIME_COLUMNS},
            records.DEVICE: trial.device,
            "samples_per_second": sum(speed) / len(speed) if speed else None,
            **{column: trial.peak(column) for column in records.PEAKS},
            **trial.facts,
            "until_epoch": trial.until,
            "error": trial.error,
            "started": trial.started,
            "ended": trial.ended,
        }

    def close(self) -> None:
        """Flushes and closes the TensorBoard files; trials.csv has all."""
        self._events.close()
        if self._num_changes:
            self.write_trials()

    def _load(self) -> None:
        cells = records.read_trials(self.folder)
        rows = [{key: records.parse_cell(text) for key, text in row.items()} for row in cells]
        for row in rows:
            trial = TrialRecord(row["trial"], row["state"])
            given = {key: row[key] for key in self.params if row.get(key) is not None}
            trial.params = {key: None if value == records.NULL else value for key, value in given.items()}
            facts = (*records.TRIAL_FACTS, *(key for key in row if key.startswith(records.TEST)))
            trial.facts = {key: row[key] for key in facts if row.get(key) is not None}
            trial.until = row.get("until_epoch")
            trial.error, trial.started, trial.ended = row.get("error"), row.get("started"), row.get("ended")
            self.trials[trial.trial] = trial
        for row in read_reports(self.folder.reports):
            name = row.pop("trial")
            row.pop("time", None)
            if name not in self.trials:
                self.trials[name] = TrialRecord(name, records.RUNNING)
            self.trials[name].add(row)
        for row in rows:
            self.trials[row["trial"]].unreported = records.unreported(row, self.trials[row["trial"]].rows)
        fillings = records.read_rows(self.folder.caches)
        self.trials.cache_device_seconds = sum(filling["device_seconds"] for filling in fillings)

    def _write(self, trial: str) -> None:
        """A trial's row has changed: it is on disk when this returns."""
        self._lines.pop(trial, None)
        self._num_changes += 1
        if self._num_changes * _ROWS_A_CHANGE >= len(self.trials):
            self.write_trials()
        else:
            self._check_there()
            self._changes.append(self.row(self.trials[trial]))

    def write_trials(self) -> None:
        """Replaces trials.csv by what is known."""
        names = sorted(self.trials)
        rows = {name: self.row(self.trials[name]) for name in names if name not in self._lines}
        known = set(self._columns)
        if not self._columns or _metrics(rows.values()).keys() - known:
            rows = {name: self.row(self.trials[name]) for name in names}
            metrics = _metrics(rows.values())
            self._columns = [*records.TRIAL_COLUMNS, *self.params, *metrics, *_COST_COLUMNS, *_LAST_COLUMNS]
        header, *lines = records.csv_text(self._columns, list(rows.values())).splitlines(keepends=True)
        self._lines |= dict(zip(rows, lines, strict=True))
        self._check_there()
        write_atomic(self.folder.trials, "".join([header, *(self._lines[name] for name in names)]))
        self.folder.changes.unlink(missing_ok=True)  # a kill before this leaves rows there that trials.csv has too
        self._changes, self._num_changes, self._is_begun = records.CsvAppender(self.folder.changes), 0, True

    def _check_there(self) -> None:
        """Returns if the study is; Tune makes a folder in the place of one that is gone."""
        check_there(self.folder.trials if self._is_begun else self.folder.root)


def _metrics(rows: Iterable[Mapping[str, Any]]) -> dict[str, None]:
    """The columns of metrics that rows of trials.csv have, in their order."""
    return dict.fromkeys(key for row in rows for key in row if key.startswith(("val_", records.TEST)))


def open_ledger(folder: StudyFolder, spec: SearchSpec, info: Mapping[str, Any]) -> Ledger:
    """The ledger of a study that no session runs.

    Args:
        folder: the study, whose lock the caller holds.
        spec: what it searches.
        info: study.json, which has the objective that follows the task.
    """
    objective = info["objectives"][0]
    return Ledger(
        folder,
        objective=(objective["metric"], objective["mode"]),
        params=param_kinds(spec.space),
        max_epochs=spec.epochs,
        limits=spec.constraints,
    )
