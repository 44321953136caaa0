"""The Optuna study and the schedule behind Ray Tune: durable, and truthful about how trials end.

Ray's own OptunaSearch tells a pruned trial's last value as COMPLETE, loses NaN and cannot say FAIL. Here
Optuna's JournalStorage in the study folder is the truth: PRUNED and COMPLETE are told apart by the epochs a
trial reached, failures are FAIL, and out-of-memory is FAIL with the attribute ``infeasible``.

What runs next is decided by :func:`mmtune.search.promotion.next_job` alone. A trial that comes to the epoch it was
given is PAUSED in the ledger and stays RUNNING in Optuna; when it is promoted, or was cut short, it is handed to Tune
as a new trial of Tune's under its own id, and goes on from its checkpoint. At the study's end what is paused is PRUNED.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import optuna
from optuna.trial import TrialState
from ray.tune.search import Searcher

from mmtune import records
from mmtune.search.journal import Journal
from mmtune.search.members import Members
from mmtune.search.promotion import Go, View, next_job
from mmtune.search.rungs import Member, Rules
from mmtune.search.samplers import make_sampler
from mmtune.search.stranded import stranded
from mmtune.search.trials import TrialRecord, Trials
from mmtune.space.optuna_names import from_optuna, suggest

if TYPE_CHECKING:
    from mmtune.slots.messages import TrialJob
    from mmtune.spec.search_spec import SearchSpec


class Book(Protocol):
    """Where a searcher writes what becomes of its trials: the ledger of a study."""

    trials: Trials

    def start(self, trial: str, params: Mapping[str, Any], *, until: int | None = None) -> TrialRecord: ...
    def pause(self, trial: str) -> None: ...
    def row(self, trial: TrialRecord) -> Mapping[str, Any]: ...
    def end(
        self,
        trial: str,
        state: str,
        *,
        facts: Mapping[str, Any] | None = None,
        error: str | None = None,
        traceback: str | None = None,
    ) -> None: ...


_NO_RESULTS = ("until_epoch",)  # of a trial's line: what the schedule gave it


class StudySearcher(Searcher):
    """Hands out interrupted trials first, then promotions, then new proposals, until the budget is spent.

    Args:
        spec: what is searched.
        journal: Optuna's study.
        ledger: told when trials start and end.
        job: params and trial id -> what the slot's workers get.
        rules: of the schedule.
        is_spent: whether a time budget is used up.
        seconds_left: device-seconds until it is; None without one.
        slots: how many trials may be under way now.
        on_end: called with a trial id and its ticket after it was recorded as over or paused.
        on_fault: called instead when storage or data failed, with what did; the trial is left as it is.
    """

    def __init__(
        self,
        *,
        spec: SearchSpec,
        journal: Journal,
        ledger: Book,
        job: Callable[[str, dict[str, Any]], TrialJob],
        rules: Rules,
        is_spent: Callable[[], bool],
        seconds_left: Callable[[], float | None],
        slots: Callable[[], int],
        on_end: Callable[[str, str], None],
        on_fault: Callable[[str, str, str], None],
    ) -> None:
        super().__init__(metric="value", mode=spec.objectives[0].mode)
        self._spec, self._journal, self._ledger, self._trials = spec, journal, ledger, ledger.trials
        self._job, self._is_spent, self._on_end, self._on_fault = job, is_spent, on_end, on_fault
        self._rules, self._seconds_left, self._slots = rules, seconds_left, slots
        self._live: dict[str, tuple[optuna.Trial, str]] = {}  # Tune's trial id -> Optuna trial and ticket
        self._members = Members(
            self._trials,
            family=spec.family,
            params_of=self._params_of,
            objectives=[(item.metric, item.mode) for item in spec.objectives],
        )
        for trial in journal.trials(TrialState.RUNNING):
            self._settle(trial.number)

    @property
    def num_unfinished(self) -> int:
        """Trials that were cut short and are still to be handed out."""
        return len(self._journal.trials(TrialState.RUNNING)) - len(self._live)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """What Tune shall run as {"trial": id, "ticket": ..., "job": ...}; None for later, or FINISHED.

        The ticket is the broker's name for the job: a trial has one for each time that it is handed out.
        """
        if len(self._live) >= self._slots():
            return None
        decision = "done" if self._is_spent() else next_job(self._view(), self._rules)
        if decision == "wait":
            return None
        if decision == "done":
            return Searcher.FINISHED
        trial = self._open(decision)
        params = suggest(self._spec.space, trial)
        name = records.trial_id(trial.number)
        ticket = f"{name}-to-{decision.until}"
        self._live[trial_id] = trial, ticket
        job = self._job(name, params)
        self._ledger.start(name, params, until=decision.until)
        return {"trial": name, "ticket": ticket, "job": job}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Tells Optuna the epoch's value (single objective: with several, Optuna takes none)."""
        if trial_id in self._live and "epoch" in result and len(self._spec.objectives) == 1:
            trial, _ = self._live[trial_id]
            self._journal.report(trial.number, {result["epoch"]: result["value"]})

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """The trial is over or has come to its rung: its state goes to Optuna and to the ledger."""
        if trial_id not in self._live:
            return
        trial, ticket = self._live.pop(trial_id)
        name = records.trial_id(trial.number)
        end = {key.removeprefix("end/"): value for key, value in (result or {}).items() if key.startswith("end/")}
        record = self._trials[name]
        message = end.get("error")
        if end.get("is_fault"):
            self._on_fault(name, ticket, str(message))  # cut short: the next session goes on with it
            return
        if error:
            state, message = records.FAILED, message or "the trial's process died"
        elif end:
            state = end["state"]
        elif record.epoch >= self._trials.max_epochs:
            state = records.COMPLETE
        elif self._trials.violation(record) is not None:
            state = records.INFEASIBLE
        elif record.until is not None and record.epoch >= record.until:
            self._pause(trial.number, record)
            self._on_end(name, ticket)
            return
        else:
            state = records.PRUNED
        if state == records.COMPLETE and not record.rows:
            state, message = records.FAILED, message or "it ended without a report"
        if state != records.FAILED and (broken := self._trials.violation(record)) is not None:
            state, message = records.INFEASIBLE, broken
        facts = {key.removeprefix("facts/"): value for key, value in end.items() if key.startswith("facts/")}
        # The ledger first: a kill between the two is put right by the next session (_settle).
        self._ledger.end(name, state, facts=facts, error=message, traceback=end.get("traceback"))
        self._tell(trial.number, record)
        self._on_end(name, ticket)

    def stranded(self, trial: str) -> list[str]:
        """The trials on the rung of one that paused that can hardly return (:mod:`mmtune.search.stranded`)."""
        if self._trials[trial].state != records.PAUSED:
            return []
        numbers = stranded(self._view(), self._rules, records.trial_number(trial))
        return [records.trial_id(number) for number in numbers]

    def prune_paused(self) -> None:
        """The study is at its end: what is paused goes no further."""
        for record in self._trials.paused():
            self._ledger.end(record.trial, records.PRUNED)
            self._tell(records.trial_number(record.trial), record)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study folder is the state. Tune wants a file."""
        Path(checkpoint_path).write_text("see optuna.log\n")

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as :meth:`save`."""

    def __getstate__(self) -> dict[str, Any]:
        return {}

    # ------------------------------------------------------------------------------------------------
    def _settle(self, number: int) -> None:
        """Puts a trial right whose end or pause a kill kept from the ledger or from Optuna."""
        record = self._trials.get(records.trial_id(number))
        if record is None:
            return
        if record.state not in records.ENDED and record.rows and record.rows[-1].get("stopped"):
            self._ledger.end(record.trial, records.PRUNED)
        is_whole, broken = record.epoch >= self._trials.max_epochs, self._trials.violation(record)
        if broken is not None and not record.is_over:
            self._ledger.end(record.trial, records.INFEASIBLE, error=broken)
        if record.is_over:
            self._tell(number, record)
        elif record.until is not None and record.until <= record.epoch and not is_whole:
            self._pause(number, record)

    def _pause(self, number: int, record: TrialRecord) -> None:
        if record.state != records.PAUSED:
            self._ledger.pause(record.trial)
        self._report_missing(number, record)
        self._journal.pause(number)

    def _view(self) -> View:
        members = self._members.all()
        known = {member.number for member in members}
        asked = self._journal.trials(TrialState.RUNNING)  # those without a record were cut short while proposed
        new = [trial.number for trial in asked if trial.number not in known]
        members += [Member(number, "", records.WAITING, self._rules.first_rung(number)) for number in new]
        budget = self._spec.budget.trials
        return View(
            members=members,
            live={trial.number for trial, _ in self._live.values()},
            room=None if budget is None else budget - self._journal.num_asked(),
            seconds_left=self._seconds_left(),
            epochs_left=None if (epochs := self._spec.budget.epochs) is None else epochs - self._trials.num_epochs(),
            next_number=self._journal.next_number(),
        )

    def _open(self, job: Go) -> optuna.Trial:
        if job.number is None:
            return self._journal.ask(self._sampler(self._journal.next_number()))
        record = self._trials.get(records.trial_id(job.number))
        if record is not None:
            self._report_missing(job.number, record)
        return self._journal.reopen(job.number, self._sampler(job.number))

    def _params_of(self, number: int) -> Mapping[str, Any]:
        return from_optuna(self._spec.space, self._journal.params(number))

    def _report_missing(self, number: int, record: TrialRecord) -> None:
        """Epochs that the ledger has and Optuna has not."""
        if len(self._spec.objectives) == 1:
            self._journal.report(number, self._trials.objective_by_epoch(record.trial))

    def _tell(self, number: int, record: TrialRecord) -> None:
        """The trial's end, as the ledger has it, to Optuna; Tune leaves out the report that a trial is stopped at."""
        self._report_missing(number, record)
        row = self._ledger.row(record)
        numbers = {
            key: value for key, value in row.items() if isinstance(value, int | float) and key not in _NO_RESULTS
        }
        self._journal.note(number, **{key: value for key, value in numbers.items() if key not in record.params})
        if record.error is not None:
            self._journal.note(number, error=record.error)
        if record.state == records.INFEASIBLE:
            self._journal.note(number, infeasible=True)
        values = self._values(record) if record.state == records.COMPLETE else None
        if values is not None:
            self._journal.tell(number, values=values)
        else:
            is_pruned = record.state == records.PRUNED
            self._journal.tell(number, state=TrialState.PRUNED if is_pruned else TrialState.FAIL)

    def _values(self, record: TrialRecord) -> list[float] | None:
        """Each objective as trials.csv has it: at the best epoch; what adds up as its total, what peaks as its most."""
        best = self._trials.best_row(record)
        if best is None:
            return None
        values = []
        for objective in self._spec.objectives:
            name = objective.metric
            value = record.cost(name) if name in records.COSTS else best.get(name)
            if value is None:
                return None
            values.append(float(value))
        return values

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        """The one that proposes trial ``number``, or what a trial cut short while it was proposed had not drawn."""
        sampler = self._spec.sampler
        return make_sampler(
            sampler.name,
            study_seed=sampler.seed,
            number=number,
            options=sampler.options,
            space=self._spec.space,
            members=self._members.all(),
            rungs=self._rules.rungs,
            by_cost=self._spec.budget.is_of_work,
            lessons=self._spec.lessons,
        )
