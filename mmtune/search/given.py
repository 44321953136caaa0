"""A proposal of mmtune's own, in the form in which Optuna asks for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial


class Given(BaseSampler):
    """Proposes what ``propose`` gives; what is not in it, since a row of try_first decided otherwise, at random.

    Args:
        propose: the parameters under Optuna's names; called once, and only if something is to be drawn.
        seed: of what is drawn at random.
    """

    def __init__(self, propose: Callable[[], Mapping[str, Any]], *, seed: int) -> None:
        self._propose, self._random = propose, RandomSampler(seed=seed)
        self._params: Mapping[str, Any] | None = None

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        if self._params is None:
            self._params = self._propose()
        if param_name in self._params:
            return self._params[param_name]
        return self._random.sample_independent(study, trial, param_name, param_distribution)
