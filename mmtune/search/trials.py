"""What is known of a study's trials: all that a decision about what runs next may read.

No disk and no clock here: :class:`mmtune.study.ledger.Ledger` fills it from the study folder and keeps both alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmtune import records


@dataclass
class TrialRecord:
    """One trial as far as the study knows it."""

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

    @property
    def epoch(self) -> int:
        """The last one reported, 0 before any."""
        return self.rows[-1]["epoch"] if self.rows else 0

    @property
    def is_over(self) -> bool:
        return self.state in records.ENDED

    def best(self, metric: str, mode: str) -> dict[str, Any] | None:
        """The row of the best epoch, the first of equals; None before any report."""
        found: dict[str, Any] | None = None
        for row in self.rows:
            value = row.get(metric)
            if value is not None and records.is_better(value, None if found is None else found[metric], mode):
                found = row
        return found

    def total(self, column: str) -> float:
        """The sum of a column over all epochs, and what is in no report; of ``records.ALONE`` the caches too."""
        if column == records.ALONE:
            return self.total("device_seconds") + (self.facts.get("cache_seconds") or 0.0)
        return sum(row.get(column) or 0.0 for row in self.rows) + self.unreported.get(column, 0.0)

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
    """

    def __init__(self, *, metric: str, mode: str, max_epochs: int, limits: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self.metric, self.mode, self.max_epochs, self.limits = metric, mode, max_epochs, limits or {}
        self.cache_device_seconds = 0.0

    def start(self, trial: str, params: dict[str, Any], *, until: int | None) -> TrialRecord:
        """A trial begins, or goes on from where it was paused or cut short, up to the epoch ``until``."""
        record = self.setdefault(trial, TrialRecord(trial))
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
        return len(self) - len(self.unfinished())

    def objective_by_epoch(self, trial: str) -> dict[int, float]:
        """Every reported epoch's objective."""
        rows = self[trial].rows if trial in self else []
        return {row["epoch"]: row[self.metric] for row in rows if row.get(self.metric) is not None}

    def objective_at(self, trial: str, epoch: int) -> float | None:
        """The objective at an epoch; None if the trial did not report it."""
        rows = self[trial].rows
        return rows[epoch - 1].get(self.metric) if epoch <= len(rows) else None

    def device_seconds(self) -> float:
        """Spent so far, by all trials of all sessions and on filling caches."""
        return self.cache_device_seconds + sum(trial.total("device_seconds") for trial in list(self.values()))

    def best_row(self, trial: TrialRecord) -> dict[str, Any] | None:
        """The trial's best epoch by the objective; None before any report."""
        return trial.best(self.metric, self.mode)

    def best(self) -> TrialRecord | None:
        """The trial with the best objective at any epoch."""
        found, value = None, None
        for trial in list(self.values()):
            row = self.best_row(trial)
            if row is not None and trial.state not in (records.FAILED, records.INFEASIBLE):
                if records.is_better(row[self.metric], value, self.mode):
                    found, value = trial, row[self.metric]
        return found
