"""The Optuna study behind Ray Tune: durable, and truthful about how trials end.

Ray's own OptunaSearch tells a pruned trial's last value as COMPLETE, loses NaN and cannot say FAIL. Here
Optuna's JournalStorage in the study folder is the truth: PRUNED and COMPLETE are told apart by the epochs a
trial reached, failures are FAIL, and out-of-memory is FAIL with the attribute ``infeasible``. A trial that
is RUNNING there when a session opens was cut short: it is handed out again before anything new.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import TrialState
from ray.tune.search import Searcher

from mmtune import records
from mmtune.search.samplers import make_sampler
from mmtune.study.recorder import Recorder, TrialRecord


class _HeldLock:
    """The study's own lock is held, so the journal needs none, and leaves no stale one behind a SIGKILL."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


def open_optuna(path: Path, *, name: str, objectives: list[tuple[str, str]]) -> optuna.Study:
    """The study in the journal at ``path``, made if there is none. The caller holds the study's lock.

    A last line that a kill cut short is removed: Optuna cannot read past it.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    records.drop_torn_line(path)
    backend = JournalFileBackend(str(path), lock_obj=_HeldLock())  # pyright: ignore[reportArgumentType]
    storage = JournalStorage(backend)
    ways = {"max": StudyDirection.MAXIMIZE, "min": StudyDirection.MINIMIZE}
    directions = [ways[mode] for _, mode in objectives]
    study = optuna.create_study(study_name=name, storage=storage, directions=directions, load_if_exists=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([metric for metric, _ in objectives])
    return study


class StudySearcher(Searcher):
    """Hands out unfinished trials first, then new proposals, until the budget is spent.

    Args:
        spec: SearchSpec.
        study: from :func:`open_optuna`.
        recorder: the ledger, told when trials start and end.
        job: params and trial id -> what the slot's workers get.
        is_spent: whether a time budget is used up.
        on_end: called with a trial id after it was recorded as over.
    """

    def __init__(
        self,
        *,
        spec: Any,
        study: optuna.Study,
        recorder: Recorder,
        job: Callable[[str, dict[str, Any]], dict[str, Any]],
        is_spent: Callable[[], bool],
        on_end: Callable[[str], None],
    ) -> None:
        super().__init__(metric="value", mode=spec.objectives[0].mode)
        self.spec, self.study, self.recorder = spec, study, recorder
        self._job, self._is_spent, self._on_end = job, is_spent, on_end
        self._live: dict[str, optuna.Trial] = {}  # Tune's trial id -> Optuna trial
        self._unfinished: list[int] = []
        for trial in study.get_trials(states=(TrialState.RUNNING,), deepcopy=False):
            if not self._ended_already(trial):
                self._unfinished.append(trial.number)

    @property
    def num_unfinished(self) -> int:
        """Trials of earlier sessions that are still to be handed out."""
        return len(self._unfinished)

    def suggest(self, trial_id: str) -> Any:
        """The next trial for Tune as {"trial": id, "job": ...}, or FINISHED."""
        if self._is_spent():
            return Searcher.FINISHED
        if self._unfinished:
            trial = self._reopen(self._unfinished.pop(0))
        else:
            if self.spec.budget.trials is not None and self._num_asked() >= self.spec.budget.trials:
                return Searcher.FINISHED
            self.study.sampler = self._sampler(self._next_number())
            trial = self.study.ask()
        params = self.spec.space.suggest(trial)
        name = records.trial_id(trial.number)
        self._live[trial_id] = trial
        job = self._job(name, params)
        self.recorder.start(name, params)
        return {"trial": name, "job": job}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Tells Optuna the epoch's value (single objective: with several, Optuna takes none)."""
        trial = self._live.get(trial_id)
        if trial is None or "epoch" not in result or len(self.spec.objectives) > 1:
            return
        known = trial.storage.get_trial(trial._trial_id).intermediate_values
        if result["epoch"] not in known:
            trial.report(result["value"], result["epoch"])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """The trial is over: its state goes to Optuna and to the ledger."""
        trial = self._live.pop(trial_id, None)
        if trial is None:
            return
        name = records.trial_id(trial.number)
        end = {key.removeprefix("end/"): value for key, value in (result or {}).items() if key.startswith("end/")}
        record = self.recorder.trials[name]
        message = end.get("error")
        if error:
            state, message = records.FAILED, message or "the trial's process died"
        elif end:
            state = end["state"]
        else:
            state = records.COMPLETE if record.epoch >= self.recorder.max_epochs else records.PRUNED
        if state == records.COMPLETE and not record.rows:
            state, message = records.FAILED, message or "it ended without a report"
        facts = {key.removeprefix("facts/"): value for key, value in end.items() if key.startswith("facts/")}
        # The ledger first: a kill between the two is put right by the next session (_ended_already).
        self.recorder.end(name, state, facts=facts, error=message, traceback=end.get("traceback"))
        self._tell(trial.number, trial._trial_id, record)
        self._on_end(name)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study folder is the state. Tune wants a file."""
        Path(checkpoint_path).write_text("see optuna.log\n")

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as :meth:`save`."""

    def __getstate__(self) -> dict[str, Any]:
        return {}

    # ------------------------------------------------------------------------------------------------
    def _ended_already(self, trial: optuna.trial.FrozenTrial) -> bool:
        """Settles a trial whose end a kill kept from Optuna: the ledger has it, or the scheduler's stop."""
        record = self.recorder.trials.get(records.trial_id(trial.number))
        if record is None:
            return False
        if record.state not in records.ENDED:
            if not (record.rows and record.rows[-1].get("stopped")):
                return False
            self.recorder.end(record.trial, records.PRUNED)
        self._tell(trial.number, trial._trial_id, record)
        return True

    def _report_missing(self, trial_id: int, record: TrialRecord) -> None:
        """Epochs that the ledger has and Optuna has not."""
        if len(self.spec.objectives) > 1:
            return
        known = self.study._storage.get_trial(trial_id).intermediate_values
        for epoch, value in self.recorder.objective_by_epoch(record.trial).items():
            if epoch not in known:
                self.study._storage.set_trial_intermediate_value(trial_id, epoch, value)

    def _tell(self, number: int, trial_id: int, record: TrialRecord) -> None:
        """The trial's end, as the ledger has it, to Optuna; Tune leaves out the report that a trial is stopped at."""
        self._report_missing(trial_id, record)
        storage = self.study._storage
        if record.error is not None:
            storage.set_trial_user_attr(trial_id, "error", record.error)
        if record.state == records.INFEASIBLE:
            storage.set_trial_user_attr(trial_id, "infeasible", True)
        values = self._values(record) if record.state == records.COMPLETE else None
        if values is not None:
            self.study.tell(number, values)
        elif record.state == records.PRUNED:
            self.study.tell(number, state=TrialState.PRUNED)
        else:
            self.study.tell(number, state=TrialState.FAIL)

    def _values(self, record: TrialRecord) -> list[float] | None:
        """Each objective at the best epoch; totals for those that add up."""
        best = record.best(self.recorder.metric, self.recorder.mode)
        if best is None:
            return None
        values = []
        for objective in self.spec.objectives:
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
        trials = self.study.get_trials(deepcopy=False)
        return sum(trial.state != TrialState.WAITING for trial in trials)

    def _next_number(self) -> int:
        trials = self.study.get_trials(deepcopy=False)
        waiting = [trial.number for trial in trials if trial.state == TrialState.WAITING]
        return min(waiting, default=len(trials))

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        sampler = self.spec.sampler
        return make_sampler(sampler.name, study_seed=sampler.seed, number=number, options=sampler.options)

    def _reopen(self, number: int) -> optuna.Trial:
        """An interrupted trial with its parameters; whatever it had not drawn yet it draws now."""
        frozen = self.study.get_trials(deepcopy=False)[number]
        record = self.recorder.trials.get(records.trial_id(number))
        if record is not None:
            self._report_missing(frozen._trial_id, record)
        self.study.sampler = self._sampler(number)
        return optuna.Trial(self.study, frozen._trial_id)
