"""What is known of a study's trials: all that a decision about what runs next may read.

No disk and no clock here: :class:`mmtune.study.ledger.Ledger` fills it from the study folder and keeps both alike.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mmtune import records


@dataclass
class TrialRecord:
    """One trial as far as the study knows it. What is known of its reports is kept while more come by ``add``."""

    trial: str
    state: str = records.WAITING
    until: int | None = None  # the epoch that it may train to, or has paused at; None before it was first handed out
    params: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)  # of reports.csv, by epoch
    facts: dict[str, Any] = field(default_factory=dict)  # records.TRIAL_FACTS
    unreported: dict[str, float] = field(default_factory=dict)  # columns of time in which it was held after a report
    error: str | None = None
    started: str | None = None
    ended: str | None = None
    _tell: Callable[[str], None] | None = field(default=None, init=False, repr=False, compare=False)
    _bests: dict[tuple[str, str], tuple[int, dict[str, Any] | None]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _sums: dict[str, tuple[int, float]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in ("state", "until", "unreported"):
            self._changed()

    def add(self, row: dict[str, Any]) -> None:
        """An epoch's report."""
        self.rows.append(row)
        self._changed()

    def hold(self, times: Mapping[str, float]) -> None:
        """It was held for so long after a report, by columns of time."""
        for column, seconds in times.items():
            self.unreported[column] = self.unreported.get(column, 0.0) + seconds
        self._changed()

    def watch(self, tell: Callable[[str], None]) -> None:
        """Has ``tell`` called with its id whenever its state, its reports or its times change."""
        self._tell = tell

    def _changed(self) -> None:
        tell = self.__dict__.get("_tell")
        if tell is not None:
            tell(self.trial)

    @property
    def epoch(self) -> int:
        """The last one reported, 0 before any."""
        return self.rows[-1]["epoch"] if self.rows else 0

    @property
    def is_over(self) -> bool:
        return self.state in records.ENDED

    def best(self, metric: str, mode: str) -> dict[str, Any] | None:
        """The row of the best epoch, the first of equals; None before any report."""
        seen, found = self._bests.get((metric, mode), (0, None))
        for row in self.rows[seen:]:
            value = row.get(metric)
            if value is not None and records.is_better(value, None if found is None else found[metric], mode):
                found = row
        self._bests[metric, mode] = len(self.rows), found
        return found

    def total(self, column: str) -> float:
        """The sum of a column over all epochs, and what is in no report; of ``records.ALONE`` the caches too."""
        if column == records.ALONE:
            return self.total("device_seconds") + (self.facts.get("cache_seconds") or 0.0)
        seen, total = self._sums.get(column, (0, 0.0))
        for row in self.rows[seen:]:
            total += row.get(column) or 0.0
        self._sums[column] = len(self.rows), total
        return total + self.unreported.get(column, 0.0)

    @property
    def device(self) -> str | None:
        """The kinds of devices that it was trained on."""
        names = {row[records.DEVICE] for row in self.rows if row.get(records.DEVICE)}
        return " and ".join(sorted(names)) or None

    def peak(self, column: str) -> float | None:
        """The most that a column had in any epoch; None if it had nothing."""
        return max((row[column] for row in self.rows if row.get(column) is not None), default=None)

    def cost(self, name: str) -> float | None:
        """A cost by its name in ``records.COSTS``: what adds up so far, what peaks as its most; None if not known."""
        if name in (*records.SUMS, records.ALONE):
            return self.total(name)
        if name in records.PEAKS:
            return self.peak(name)
        return self.epoch if name == "epochs" else self.facts.get(name)


class Trials(dict[str, TrialRecord]):
    """All trials by their id.

    Args:
        metric: decides a trial's best epoch.
        mode: of the metric, max or min.
        max_epochs: the most a trial can train.
        limits: cost -> the most that a trial may have of it.

    Attributes:
        cache_device_seconds: spent on filling caches, which is the study's.
        changes: the id of a trial for each change of one, in order: who has read up to a place goes on from there.
    """

    def __init__(self, *, metric: str, mode: str, max_epochs: int, limits: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self.metric, self.mode, self.max_epochs, self.limits = metric, mode, max_epochs, limits or {}
        self.cache_device_seconds = 0.0
        self.changes: list[str] = []
        self._lock = threading.Lock()  # of what follows; a display asks from a thread of its own
        self._seen = 0  # of changes
        self._places: dict[str, int] = {}
        self._settled: set[str] = set()
        self._seconds: dict[str, float] = {}
        self._epochs: dict[str, int] = {}
        self._best: tuple[float, int, str] | None = None  # value, smaller is better; place of the trial; its id

    def __setitem__(self, name: str, record: TrialRecord) -> None:
        super().__setitem__(name, record)
        self._places.setdefault(name, len(self._places))
        record.watch(self.changes.append)
        self.changes.append(name)

    def start(self, trial: str, params: dict[str, Any], *, until: int | None) -> TrialRecord:
        """A trial begins, or goes on from where it was paused or cut short, up to the epoch ``until``."""
        if trial not in self:
            self[trial] = TrialRecord(trial)
        record = self[trial]
        record.params, record.state, record.until = params, records.RUNNING, until
        return record

    def violation(self, trial: TrialRecord) -> str | None:
        """The first limit that a trial has gone beyond, in words; None if it keeps all, as far as it is known."""
        for name, limit in self.limits.items():
            value = trial.cost(name)
            if value is not None and value > limit:
                return f"constraint {name} <= {limit:g}: it has {value:.4g}"
        return None

    def over(self) -> list[str]:
        """Trials that have ended."""
        return [name for name, trial in list(self.items()) if trial.is_over]

    def unfinished(self) -> list[TrialRecord]:
        """Trials that were cut short or are under way."""
        return [trial for trial in list(self.values()) if not trial.is_over and trial.state != records.PAUSED]

    def paused(self) -> list[TrialRecord]:
        """Trials that wait on a rung: they may be promoted, or have come as far as they shall."""
        return [trial for trial in list(self.values()) if trial.state == records.PAUSED]

    def num_settled(self) -> int:
        """How many have ended or are paused."""
        with self._lock:
            self._catch_up()
            return len(self._settled)

    def objective_by_epoch(self, trial: str) -> dict[int, float]:
        """Every reported epoch's objective."""
        rows = self[trial].rows if trial in self else []
        return {row["epoch"]: row[self.metric] for row in rows if row.get(self.metric) is not None}

    def objective_at(self, trial: str, epoch: int) -> float | None:
        """The objective at an epoch; None if the trial did not report it."""
        rows = self[trial].rows
        return rows[epoch - 1].get(self.metric) if epoch <= len(rows) else None

    def num_epochs(self) -> int:
        """Trained so far, by all trials of all sessions; one that was trained again counts once."""
        with self._lock:
            self._catch_up()
            return sum(self._epochs.values())

    def device_seconds(self) -> float:
        """Spent so far, by all trials of all sessions and on filling caches."""
        with self._lock:
            self._catch_up()
            return self.cache_device_seconds + math.fsum(self._seconds.values())

    def best_row(self, trial: TrialRecord) -> dict[str, Any] | None:
        """The trial's best epoch by the objective; None before any report."""
        return trial.best(self.metric, self.mode)

    def best(self) -> TrialRecord | None:
        """The trial with the best objective at any epoch, the first of equals; None if none has one."""
        with self._lock:
            self._catch_up()
            return None if self._best is None else self[self._best[2]]

    def _catch_up(self) -> None:
        """Looks at the trials that have changed since."""
        end = len(self.changes)
        names, self._seen = list(dict.fromkeys(self.changes[self._seen : end])), end
        for name in names:
            trial = self[name]
            self._seconds[name] = trial.total("device_seconds")
            self._epochs[name] = trial.epoch
            (self._settled.add if trial.is_over or trial.state == records.PAUSED else self._settled.discard)(name)
        if self._best is not None and self[self._best[2]].state in (records.FAILED, records.INFEASIBLE):
            self._best, names = None, list(self)
        for name in names:
            trial = self[name]
            row = self.best_row(trial)
            if row is None or trial.state in (records.FAILED, records.INFEASIBLE):
                continue
            value = -row[self.metric] if self.mode == "max" else row[self.metric]
            found = (math.inf if math.isnan(value) else value, self._places[name], name)
            self._best = found if self._best is None else min(self._best, found)
