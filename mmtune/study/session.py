"""One session of a study: from its first Tuner to its last report, first run or resumed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from mmtune import records
from mmtune.records import StudyFolder
from mmtune.slots.head import end_process
from mmtune.slots.messages import Spent, TrialJob
from mmtune.slots.requirements import requirements_ahead
from mmtune.space.optuna_names import is_full, to_optuna
from mmtune.spec.search_spec import SearchSpec
from mmtune.storage.store import resumed_by
from mmtune.study.budget import Account
from mmtune.study.failures import all_failed, cause, equal_failures, fault_in, to_retry
from mmtune.study.keeping import Collector
from mmtune.study.ledger import Ledger
from mmtune.study.screen import Screen
from mmtune.study.tensorboard import param_kinds
from trainables.errors import fault_text
from trainables.files import check_there, write_atomic

if TYPE_CHECKING:
    from mmtune.search.journal import Journal
    from mmtune.storage.mirror import Mirror
    from trainables.data.requirements import Requirement

_PAUSED = "paused, by no fault of a trial: "
_MAX_CRASHES = 3  # Tuners in a row that ended with an exception and without a new report


@dataclass(frozen=True)
class Ending:
    """How a session ended."""

    folder: StudyFolder
    is_complete: bool  # the budget is used up, no trial is unfinished and one has a result
    is_interrupted: bool  # by a signal
    error: str | None  # what stopped it beside that
    recovered: str | None  # what a resume found


_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # the same text, five times as fast


class Session:
    """What one session knows: the study, its ledger, what it may spend, and the screen that shows it.

    Args:
        folder: the study; the caller holds its lock.
        spec: what it searches.
        info: study.json, this session's entry the last of 'sessions'.
        slots: trials at the same time.
        interrupted: set when a person wants it to end.
        began: when it began, by time.monotonic.
        say: receives a line on what happens; None: nothing is shown.
        mirror: of a study in object storage.
    """

    def __init__(
        self,
        folder: StudyFolder,
        spec: SearchSpec,
        info: dict[str, Any],
        *,
        slots: int,
        interrupted: threading.Event,
        began: float,
        say: Callable[[str], None] | None,
        mirror: Mirror | None = None,
    ) -> None:
        self.mirror = mirror
        self.folder, self.spec, self.slots, self.interrupted = folder, spec, slots, interrupted
        self.failure: str | None = None  # why no trial should start any more, once that is clear
        self.number = len(info["sessions"])
        self._info, self._data_dir, self._say = info, info["data_dir"], say
        objective = spec.objectives[0]
        self.ledger = Ledger(
            folder,
            objective=(objective.metric, objective.mode),
            params=param_kinds(spec.space),
            max_epochs=spec.epochs,
            limits=spec.constraints,
        )
        self._collector = Collector(
            folder,
            self.ledger,
            objectives=[(item.metric, item.mode) for item in spec.objectives],
            keep=spec.keep,
            family=spec.family,
            replaced=lambda: info["retried"],
            removed=mirror.remove if mirror is not None else lambda path: None,
        )
        before = sum(session.get("seconds", 0.0) for session in info["sessions"])
        self.account = Account(spec.budget, self.ledger.trials, before, began)
        self._idle, self._no_pool_since = 0.0, 0.0  # device-seconds; when, in session seconds, the last pool was closed
        total = spec.budget.trials
        self.screen = Screen(folder.name, self.ledger.trials, total=total, filling=folder.filling, say=say)

    def run(self, tune: Callable[[Session, Journal], str | None]) -> Ending:
        """Runs Tune until the budget is spent, a signal comes or nothing can go on.

        Args:
            tune: one run of a Tuner; why the study cannot go on, or None.
        """
        journal = self._open_journal()
        self._retry(journal)
        recovered = self._recovered()
        if recovered and self._say is not None:
            self._say(recovered)
        try:
            with self.screen:
                error = self._tune(journal, tune)
            self._collector.clear()
            trials = self.ledger.trials.values()
            if error is None and not self.interrupted.is_set() and all_failed(trials):
                error = f"no trial succeeded, {len(trials)} failed: {cause(trials)}"
            self._info["sessions"][-1]["error"] = error
        finally:
            unwritten = self._close()
        error = error or unwritten
        is_interrupted = self.interrupted.is_set()
        trials = self.ledger.trials
        is_complete = error is None and not is_interrupted and not trials.unfinished() and not trials.paused()
        return Ending(self.folder, is_complete, is_interrupted, error, recovered)

    def grow(self, slots: int) -> None:
        """From now on so many trials train at the same time."""
        self.screen.say(f"the cluster has grown: {slots} slots, {self.slots} before")
        self.slots = self._info["sessions"][-1]["slots"] = slots

    def book_idle(self) -> None:
        """Since the last pool was closed nobody could use the devices: until now they were idle."""
        now = self.account.session_seconds()
        self._idle += self._devices * (now - self._no_pool_since)
        self._no_pool_since = now

    def close_books(self) -> None:
        """Writes what the session took so far into study.json: at its end, and once more when Ray has ended too."""
        self.book_idle()
        entry = self._info["sessions"][-1]
        entry |= {"seconds": self.account.session_seconds(), "idle_device_seconds": self._idle}
        check_there(self.folder.spec)
        records.write_json(self.folder.info, self._info)

    def pool_closed(self, spent: Spent | None) -> None:
        """``spent`` is all that :meth:`book` has not had."""
        self._no_pool_since = self.account.session_seconds()
        self.book(spent)

    def book(self, spent: Spent | None) -> None:
        """Where the time of the slots went beside reports; None if nobody knows."""
        if spent is not None:
            self.ledger.book(spent)
            self._idle += spent.idle

    def trial_ended(self, trial: str, *, stranded: Sequence[str]) -> None:
        """Shows that a trial is over or paused, and draws what follows from it.

        Args:
            trial: its id.
            stranded: paused trials that can hardly return.
        """
        self.screen.ended(trial)
        if self.mirror is not None:
            self.mirror.changed(trial)
        self._collector.trial_ended(trial, stranded=stranded)
        self._look_at_failures()

    def abandon(self, what: str) -> None:
        """Ends this process, which can do nothing any more; called from a thread.

        Args:
            what: happened.
        """
        self._info["sessions"][-1]["error"] = what
        with contextlib.suppress(OSError):
            self.close_books()
        self.screen.__exit__()
        end_process(what, f"not finished. Go on with: mmtune resume {resumed_by(self.folder.root)}")

    def pause(self, what: str) -> None:
        """Notes ``failure``: storage or data failed, and every other trial would fail alike."""
        self.failure = self.failure or f"{_PAUSED}{what}"

    def _look_at_failures(self) -> None:
        """Notes ``failure`` once the trials that ended last all failed with one error."""
        most, retried = self.spec.resources.max_equal_failures, self._info["retried"]
        last = equal_failures(self.ledger.trials.values(), retried=retried)
        if most and len(last) >= most:
            self.failure = (
                f"{len(last)} trials in a row failed with the same error: {cause(last)} "
                f"(resources.max_equal_failures: {most})"
            )

    def job(self, trial: str, params: dict[str, Any]) -> TrialJob:
        """What a slot's workers get; writes the trial's config.yaml."""
        check_there(self.folder.spec)
        config = self.spec.trial_config(params, self._data_dir).to_dict()
        folder = self.folder.trial(trial)
        write_atomic(folder / "config.yaml", yaml.dump(config, Dumper=_Dumper, sort_keys=False))
        trials = self.ledger.trials
        known = trials[trial].epoch if trial in trials else 0
        is_tested = bool(self.spec.finalists)
        job: TrialJob = {
            "trial": trial, "config": config, "folder": str(folder), "known_epoch": known, "is_tested": is_tested
        }  # fmt: skip
        if self.mirror is not None:
            self.mirror.written(trial)
            self.mirror.flush()
            job["remote"] = f"{self.mirror.url}/trials/{trial}"
        return job

    def commit(self) -> None:
        """Hands what has changed on to object storage; pauses the study if that does not take it."""
        try:
            if self.mirror is not None:
                self.mirror.note()
        except OSError as error:
            self.pause(fault_text(error))

    def seconds_left(self) -> float | None:
        """Device-seconds that the budget of time leaves; None without one."""
        return self.account.seconds_left(devices=self._devices)

    def requirements(self) -> tuple[list[Requirement], list[Requirement]]:
        """What the first trials need from the cache, so that the slots fill it side by side, and what those of
        ``try_first`` need in all, or of the space's corners.

        Later trials make what they need beside that when they start, while the other slots go on.
        """
        return requirements_ahead(self.spec, self._data_dir, slots=self.slots)

    @property
    def _devices(self) -> float:
        """That all slots hold together."""
        return self.slots * self.spec.resources.devices

    def _open_journal(self) -> Journal:
        from mmtune.search.journal import Journal, take_back_proposal

        space, names = self.spec.space, [(item.metric, item.mode) for item in self.spec.objectives]
        journal = Journal(self.folder.optuna_log, name=self.spec.study, objectives=names)
        if take_back_proposal(self.folder.optuna_log, journal.trials(), lambda params: is_full(space, params)):
            journal = Journal(self.folder.optuna_log, name=self.spec.study, objectives=names)
        if not journal.trials():
            for params in self.spec.try_first:
                journal.enqueue(to_optuna(self.spec.space, params))
        return journal

    def _retry(self, journal: Journal) -> None:
        """Has the failures that ended the last session proposed again, under new numbers; writes that one has begun."""
        most, trials = self.spec.resources.max_equal_failures, self.ledger.trials
        for trial in to_retry(trials.values(), most_equal=most, retried=journal.retried()):
            journal.retry(records.trial_number(trial.trial))
        self._info["retried"] = journal.retried()
        records.write_json(self.folder.info, self._info)

    def _recovered(self) -> str | None:
        trials = self.ledger.trials
        if not trials:
            return None
        unfinished, paused = trials.unfinished(), trials.paused()
        rows = sum(len(trial.rows) for trial in trials.values())
        waiting = f", {len(paused)} paused ones" if paused else ""
        text = f"recovered {len(trials.over())} finished trials{waiting} and {rows} epochs"
        if unfinished:
            going_on = ", ".join(f"{trial.trial} after epoch {trial.epoch}" for trial in unfinished)
            text += f"; going on with {going_on}"
        return text

    def _close(self) -> str | None:
        """Closes every file; what could not be written, or None."""
        try:
            try:
                self.ledger.close()
            finally:
                self.close_books()
        except OSError as error:
            return f"{_PAUSED}{fault_in(error)}"
        return None

    def _tune(self, journal: Journal, tune: Callable[[Session, Journal], str | None]) -> str | None:
        """Tuner after Tuner, should one fall; why the study could not go on, or None."""
        crashes, epochs_before = 0, -1
        while True:
            try:
                return tune(self, journal)
            except Exception as failure:  # Tune itself fell (its actors can be killed for memory): go on
                if fault := fault_in(failure):
                    return self.failure or f"{_PAUSED}{fault}"
                epochs = sum(trial.epoch for trial in self.ledger.trials.values())
                crashes = crashes + 1 if epochs == epochs_before else 1
                epochs_before = epochs
                error = f"Ray Tune stopped: {str(failure).strip().splitlines()[-1]}"
                if crashes >= _MAX_CRASHES or self.interrupted.is_set():
                    return error
                self.screen.say(f"{error}; starting it again")
