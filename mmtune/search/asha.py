"""ASHA: Ray Tune's own, whose rungs are rebuilt from what the study folder says."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from mmtune.search.trials import Trials

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController


class StudyAsha(ASHAScheduler):
    """ASHA (Li et al. 2020) as Ray implements it: stop what is below the (1 - 1/eta) percentile of its rung.

    Args:
        trials: has every report of the study, those of earlier sessions too.
        grace_epochs: first rung.
        reduction_factor: eta.
        brackets: parallel ladders, each starting one rung later; a trial's is drawn from its number.
        is_spent: whether the budget is used up.
    """

    def __init__(
        self,
        *,
        trials: Trials,
        grace_epochs: int,
        reduction_factor: int,
        brackets: int,
        is_spent: Callable[[], bool],
    ) -> None:
        super().__init__(
            time_attr="epoch",
            metric="value",
            mode=trials.mode,
            max_t=trials.max_epochs,
            grace_period=min(grace_epochs, trials.max_epochs),
            reduction_factor=reduction_factor,
            brackets=brackets,
            stop_last_trials=False,
        )
        self._trials, self._is_spent = trials, is_spent
        for trial in trials.over():
            self._fill_rungs(self._bracket_of(trial), trial, key=trial)

    def on_trial_add(self, tune_controller: TuneController, trial: Trial) -> None:
        name = trial.config["trial"]
        self._trial_info[trial.trial_id] = self._bracket_of(name)
        self._fill_rungs(self._trial_info[trial.trial_id], name, key=trial.trial_id)

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> str:
        if "epoch" not in result:
            return TrialScheduler.CONTINUE
        decision = super().on_trial_result(tune_controller, trial, result)
        if result["epoch"] >= self._trials.max_epochs:
            return TrialScheduler.CONTINUE
        return TrialScheduler.STOP if self._is_spent() else decision

    def on_trial_complete(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> None:
        self._trial_info.pop(trial.trial_id, None)

    def on_trial_remove(self, tune_controller: TuneController, trial: Trial) -> None:
        self._trial_info.pop(trial.trial_id, None)

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles what it is given; everything here comes from the study folder

    def _bracket_of(self, trial: str) -> Any:
        weights = [2.718281828**-index for index in range(len(self._brackets))]  # as Ray: fewer in later brackets
        return random.Random(trial).choices(self._brackets, weights)[0]

    def _fill_rungs(self, bracket: Any, trial: str, *, key: str) -> None:
        values = self._trials.objective_by_epoch(trial)
        for milestone, recorded in bracket._rungs:
            if milestone in values:
                recorded[key] = values[milestone] if self._mode == "max" else -values[milestone]
