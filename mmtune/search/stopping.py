"""ASHA that stops: whoever is below the top of a rung when it comes there is stopped for good, as Ray Tune has it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from mmtune.search.toepoch import ToItsEpoch
from mmtune.search.trials import Trials

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController


class StopBelow(ToItsEpoch):
    """The rule of ``ray.tune.schedulers.ASHAScheduler`` (after Li et al. 2020), decided from the ledger alone.

    Ray's own keeps its rungs in memory, and the snapshot that Tune resumes from leaves them out.

    Args:
        trials: has every report of the study, those of earlier sessions too.
        is_spent: whether the budget is used up.
        grace_epochs: first rung.
        reduction_factor: eta.
        brackets: parallel ladders, each starting one rung later.
    """

    def __init__(
        self,
        *,
        trials: Trials,
        is_spent: Callable[[], bool],
        grace_epochs: int,
        reduction_factor: int,
        brackets: int,
    ) -> None:
        super().__init__(trials=trials, is_spent=is_spent)
        self._grace, self._eta = grace_epochs, reduction_factor
        self._weights = [math.exp(-index) for index in range(brackets)]  # as in Ray fewer the later they begin
        self._bracket_of: dict[str, int] = {}

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> str:
        decision = super().on_trial_result(tune_controller, trial, result)
        epoch = result.get("epoch")
        if decision != TrialScheduler.CONTINUE or epoch is None or epoch >= self._trials.max_epochs:
            return decision
        name, value = trial.config["trial"], result["value"]
        bracket = self._bracket(name)
        if epoch not in {self._grace * self._eta**rung for rung in range(bracket, bracket + epoch)}:
            return decision
        sign = 1.0 if self._trials.mode == "max" else -1.0
        before = [
            sign * there
            for other in list(self._trials)
            if other != name and self._bracket(other) == bracket
            if (there := self._trials.objective_at(other, epoch)) is not None and not math.isnan(there)
        ]
        is_below = bool(before) and sign * value < np.percentile(before, 100 * (1 - 1 / self._eta))
        return TrialScheduler.STOP if is_below else decision

    def _bracket(self, trial: str) -> int:
        """The ladder that a trial climbs, drawn from its number; drawn once, since a rung asks it of every trial."""
        if trial not in self._bracket_of:
            self._bracket_of[trial] = random.Random(trial).choices(range(len(self._weights)), self._weights)[0]
        return self._bracket_of[trial]
