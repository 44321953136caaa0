"""The Optuna study behind Ray Tune: durable, and truthful about how trials end.

Ray's own OptunaSearch tells a pruned trial's last value as COMPLETE, loses NaN and cannot say FAIL. Here
Optuna's JournalStorage in the study folder is the truth: PRUNED and COMPLETE are told apart by the epochs a
trial reached, failures are FAIL, and out-of-memory is FAIL with the attribute ``infeasible``. A trial that
is RUNNING there when a session opens was cut short: it is handed out again before anything new.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import TrialState
from ray.tune.search import Searcher

from mmtune import records
from mmtune.search.journal import Journal
from mmtune.search.samplers import make_sampler
from mmtune.search.trials import TrialRecord
from mmtune.space.optuna_names import suggest

if TYPE_CHECKING:
    from mmtune.slots.messages import TrialJob
    from mmtune.spec.search_spec import SearchSpec
    from mmtune.study.ledger import Ledger


class StudySearcher(Searcher):
    """Hands out unfinished trials first, then new proposals, until the budget is spent.

    Args:
        spec: what is searched.
        journal: Optuna's study.
        ledger: told when trials start and end.
        job: params and trial id -> what the slot's workers get.
        is_spent: whether a time budget is used up.
        on_end: called with a trial id after it was recorded as over.
    """

    def __init__(
        self,
        *,
        spec: SearchSpec,
        journal: Journal,
        ledger: Ledger,
        job: Callable[[str, dict[str, Any]], TrialJob],
        is_spent: Callable[[], bool],
        on_end: Callable[[str], None],
    ) -> None:
        super().__init__(metric="value", mode=spec.objectives[0].mode)
        self._spec, self._journal, self._ledger, self._trials = spec, journal, ledger, ledger.trials
        self._job, self._is_spent, self._on_end = job, is_spent, on_end
        self._live: dict[str, optuna.Trial] = {}  # Tune's trial id -> Optuna trial
        self._unfinished: list[int] = []
        for trial in journal.trials(TrialState.RUNNING):
            if not self._ended_already(trial.number):
                self._unfinished.append(trial.number)

    @property
    def num_unfinished(self) -> int:
        """Trials of earlier sessions that are still to be handed out."""
        return len(self._unfinished)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial for Tune as {"trial": id, "job": ...}, or FINISHED."""
        if self._is_spent():
            return Searcher.FINISHED
        if self._unfinished:
            trial = self._reopen(self._unfinished.pop(0))
        else:
            if self._spec.budget.trials is not None and self._num_asked() >= self._spec.budget.trials:
                return Searcher.FINISHED
            trial = self._journal.ask(self._sampler(self._journal.next_number()))
        params = suggest(self._spec.space, trial)
        name = records.trial_id(trial.number)
        self._live[trial_id] = trial
        job = self._job(name, params)
        self._ledger.start(name, params)
        return {"trial": name, "job": job}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Tells Optuna the epoch's value (single objective: with several, Optuna takes none)."""
        trial = self._live.get(trial_id)
        if trial is None or "epoch" not in result or len(self._spec.objectives) > 1:
            return
        self._journal.report(trial.number, {result["epoch"]: result["value"]})

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """The trial is over: its state goes to Optuna and to the ledger."""
        trial = self._live.pop(trial_id, None)
        if trial is None:
            return
        name = records.trial_id(trial.number)
        end = {key.removeprefix("end/"): value for key, value in (result or {}).items() if key.startswith("end/")}
        record = self._trials[name]
        message = end.get("error")
        if error:
            state, message = records.FAILED, message or "the trial's process died"
        elif end:
            state = end["state"]
        else:
            state = records.COMPLETE if record.epoch >= self._trials.max_epochs else records.PRUNED
        if state == records.COMPLETE and not record.rows:
            state, message = records.FAILED, message or "it ended without a report"
        facts = {key.removeprefix("facts/"): value for key, value in end.items() if key.startswith("facts/")}
        # The ledger first: a kill between the two is put right by the next session (_ended_already).
        self._ledger.end(name, state, facts=facts, error=message, traceback=end.get("traceback"))
        self._tell(trial.number, record)
        self._on_end(name)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study folder is the state. Tune wants a file."""
        Path(checkpoint_path).write_text("see optuna.log\n")

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as :meth:`save`."""

    def __getstate__(self) -> dict[str, Any]:
        return {}

    # ------------------------------------------------------------------------------------------------
    def _ended_already(self, number: int) -> bool:
        """Settles a trial whose end a kill kept from Optuna: the ledger has it, or the scheduler's stop."""
        record = self._trials.get(records.trial_id(number))
        if record is None:
            return False
        if record.state not in records.ENDED:
            if not (record.rows and record.rows[-1].get("stopped")):
                return False
            self._ledger.end(record.trial, records.PRUNED)
        self._tell(number, record)
        return True

    def _report_missing(self, number: int, record: TrialRecord) -> None:
        """Epochs that the ledger has and Optuna has not."""
        if len(self._spec.objectives) == 1:
            self._journal.report(number, self._trials.objective_by_epoch(record.trial))

    def _tell(self, number: int, record: TrialRecord) -> None:
        """The trial's end, as the ledger has it, to Optuna; Tune leaves out the report that a trial is stopped at."""
        self._report_missing(number, record)
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
        """Each objective at the best epoch; totals for those that add up."""
        best = self._trials.best_row(record)
        if best is None:
            return None
        values = []
        for objective in self._spec.objectives:
            if objective.metric in records.SUMS:
                value = record.total(objective.metric)
            elif objective.metric == "epochs":
                value = record.epoch
            else:
                value = best.get(objective.metric, record.facts.get(objective.metric))
            if value is None:
                return None
            values.append(float(value))
        return values

    def _num_asked(self) -> int:
        asked = sum(trial.state != TrialState.WAITING for trial in self._journal.trials())
        return asked - len(self._journal.retried())

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        sampler = self._spec.sampler
        return make_sampler(sampler.name, study_seed=sampler.seed, number=number, options=sampler.options)

    def _reopen(self, number: int) -> optuna.Trial:
        """An interrupted trial with its parameters; whatever it had not drawn yet it draws now."""
        record = self._trials.get(records.trial_id(number))
        if record is not None:
            self._report_missing(number, record)
        return self._journal.reopen(number, self._sampler(number))
