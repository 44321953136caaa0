"""What mmtune's search is compared with: random search, Ray Tune's rules, Optuna, DEHB, SMAC, Syne Tune's BOHB.

All see a table as numbers from 0 to 1. A configuration that is asked for again goes on where it stopped. A loss that is
not finite is told as the worst so far.
"""

from __future__ import annotations

import logging
import math
import tempfile
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from curves import Table

NEEDS = {"dehb": "dehb", "smac": "smac", "bohb": "syne_tune"}  # method -> package


@dataclass
class Training:
    """One configuration in training."""

    number: int
    point: np.ndarray
    losses: list[float] = field(default_factory=list)


class Search(Protocol):
    """A way to search: asked for work, told each epoch."""

    def ask(self, seconds_left: float) -> Training | None:
        """What a free worker trains next; None if it has to wait."""
        ...

    def told(self, training: Training, *, is_over: bool) -> bool:
        """The last loss is new, and the last there is if ``is_over``; True stops the training."""
        ...


class Stopping:
    """Random search, or Optuna's TPE, under ASHA that stops; without rungs nothing is stopped.

    A rung's cut is the (1 - 1/eta) percentile of what came before, as Ray Tune has it.
    """

    def __init__(self, table: Table, seed: int, *, grace: int | None, is_tpe: bool = False) -> None:
        self.num_params, self.rng, self.count = table.num_params, np.random.default_rng(seed), 0
        self.rungs: dict[int, list[float]] = {}
        rung = grace or table.epochs
        while rung < table.epochs:
            self.rungs[rung] = []
            rung *= 3
        self.study, self.trials = None, {}
        if is_tpe:
            import optuna

            settings = {"multivariate": True, "group": True, "constant_liar": True, "n_startup_trials": 8}
            self.study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, **settings))

    def ask(self, seconds_left: float) -> Training | None:
        training = Training(self.count, self.rng.random(self.num_params))
        if self.study is not None:
            trial = self.trials[self.count] = self.study.ask()
            training.point = np.array([trial.suggest_float(f"u{index}", 0, 1) for index in range(self.num_params)])
        self.count += 1
        return training

    def told(self, training: Training, *, is_over: bool) -> bool:
        loss, epoch = training.losses[-1], len(training.losses)
        is_stopped = False
        if (rung := self.rungs.get(epoch)) is not None and math.isfinite(loss):
            is_stopped = bool(rung) and loss > np.percentile(rung, 100 / 3)
            rung.append(loss)
        if self.study is not None:
            self._tell(training, is_over=is_over, is_stopped=is_stopped)
        return is_stopped or not math.isfinite(loss)

    def _tell(self, training: Training, *, is_over: bool, is_stopped: bool) -> None:
        from optuna.trial import TrialState

        assert self.study is not None
        trial, loss = self.trials[training.number], training.losses[-1]
        if not math.isfinite(loss):
            self.study.tell(trial, state=TrialState.FAIL)
            return
        trial.report(loss, len(training.losses))
        if is_over:
            self.study.tell(trial, min(training.losses))
        elif is_stopped:
            self.study.tell(trial, state=TrialState.PRUNED)


class Hyperband:
    """Optuna's TPE with Optuna's Hyperband pruner, both as they come."""

    def __init__(self, table: Table, seed: int) -> None:
        import optuna

        pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=table.epochs, reduction_factor=3)
        sampler = optuna.samplers.TPESampler(seed=seed)
        name = f"{seed}"  # the pruner draws brackets from it
        self.study = optuna.create_study(study_name=name, sampler=sampler, pruner=pruner)
        self.num_params, self.trials = table.num_params, {}

    def ask(self, seconds_left: float) -> Training | None:
        trial = self.study.ask()
        self.trials[trial.number] = trial
        return Training(trial.number, np.array([trial.suggest_float(f"u{i}", 0, 1) for i in range(self.num_params)]))

    def told(self, training: Training, *, is_over: bool) -> bool:
        from optuna.trial import TrialState

        trial, loss = self.trials[training.number], training.losses[-1]
        if not math.isfinite(loss):
            self.study.tell(trial, state=TrialState.FAIL)
            return True
        best = min(training.losses)
        trial.report(best, len(training.losses))
        if is_over:
            self.study.tell(trial, best)
            return True
        if trial.should_prune():
            self.study.tell(trial, state=TrialState.PRUNED)
            return True
        return False


class _ByBudget:
    """A package that asks for configurations with a number of epochs each, and is told the best loss by then."""

    def __init__(self, table: Table) -> None:
        self.names, self.epochs = [f"u{index}" for index in range(table.num_params)], table.epochs
        self.trainings: dict[Any, Training] = {}
        self.under_way: dict[int, tuple[int, Any]] = {}  # by number: until which epoch, and what was asked
        self.worst = 0.0

    def ask(self, seconds_left: float) -> Training | None:
        while True:
            asked, key, values, budget = self._next()
            training = self.trainings.setdefault(key, Training(len(self.trainings), np.array(values)))
            until = min(math.ceil(budget - 1e-6), self.epochs)
            if len(training.losses) < until and training.number not in self.under_way:
                self.under_way[training.number] = (until, asked)
                return training
            self._told(asked, self._loss(training))

    def told(self, training: Training, *, is_over: bool) -> bool:
        until, asked = self.under_way[training.number]
        is_finite = math.isfinite(training.losses[-1])
        if is_finite and len(training.losses) < until and not is_over:
            return False
        del self.under_way[training.number]
        self._told(asked, self._loss(training))
        return True

    def _loss(self, training: Training) -> float:
        finite = [loss for loss in training.losses if math.isfinite(loss)]
        self.worst = max([self.worst, *finite])
        return min(finite) if len(finite) == len(training.losses) and finite else self.worst

    def _next(self) -> tuple[Any, Any, list[float], float]:
        """What was asked, what tells the configuration, its values, its epochs."""
        raise NotImplementedError

    def _told(self, asked: Any, loss: float) -> None:
        raise NotImplementedError


class Dehb(_ByBudget):
    """DEHB (Awad et al. 2021), asked and told."""

    def __init__(self, table: Table, seed: int) -> None:
        from dehb import DEHB  # pyright: ignore[reportMissingImports]
        from loguru import logger  # pyright: ignore[reportMissingImports]

        super().__init__(table)
        logger.remove()
        with tempfile.TemporaryDirectory() as folder:
            self.search = DEHB(
                dimensions=table.num_params, configspace=False, min_fidelity=1, max_fidelity=table.epochs, eta=3,
                seed=seed, n_workers=1, output_path=folder, save_freq=None,
            )  # fmt: skip

    def _next(self) -> tuple[Any, Any, list[float], float]:
        job = self.search.ask()
        return job, job["config_id"], list(job["config"]), job["fidelity"]

    def _told(self, asked: Any, loss: float) -> None:
        self.search.tell(asked, {"fitness": loss, "cost": 1.0})


class Smac(_ByBudget):
    """SMAC's multi-fidelity facade (Lindauer et al. 2022): random forests and Hyperband."""

    def __init__(self, table: Table, seed: int) -> None:
        from ConfigSpace import ConfigurationSpace  # pyright: ignore[reportMissingImports]
        from smac import MultiFidelityFacade, Scenario  # pyright: ignore[reportMissingImports]

        super().__init__(table)
        space = ConfigurationSpace(space={name: (0.0, 1.0) for name in self.names}, seed=seed)
        folder = tempfile.mkdtemp()
        scenario = Scenario(
            space, n_trials=100_000, min_budget=1, max_budget=table.epochs, deterministic=True, seed=seed,
            output_directory=folder,
        )  # fmt: skip
        self.search = MultiFidelityFacade(scenario, _never, overwrite=True, logging_level=False)

    def _next(self) -> tuple[Any, Any, list[float], float]:
        asked = self.search.ask()
        return asked, asked.config, [float(asked.config[name]) for name in self.names], asked.budget

    def _told(self, asked: Any, loss: float) -> None:
        from smac.runhistory.dataclasses import TrialValue  # pyright: ignore[reportMissingImports]

        self.search.tell(asked, TrialValue(cost=loss, time=1.0), save=False)


def _never(config: Any, seed: int = 0, budget: float = 0) -> float:
    raise NotImplementedError  # trainings are asked for


class Bohb:
    """Syne Tune's BOHB (Salinas et al. 2022): Parzen estimates on each rung under ASHA that stops."""

    def __init__(self, table: Table, seed: int) -> None:
        logging.getLogger("syne_tune").setLevel(logging.ERROR)
        from syne_tune.config_space import uniform  # pyright: ignore[reportMissingImports]
        from syne_tune.optimizer.baselines import BOHB  # pyright: ignore[reportMissingImports]

        self.names = [f"u{index}" for index in range(table.num_params)]
        self.search = BOHB(
            {key: uniform(0.0, 1.0) for key in self.names}, metric="loss", time_attr="epoch", max_t=table.epochs,
            do_minimize=True, random_seed=seed % 2**32, grace_period=1, reduction_factor=3,
        )  # fmt: skip
        self.trials: list[Any] = []
        self.worst = 0.0

    def ask(self, seconds_left: float) -> Training | None:
        from datetime import datetime

        from syne_tune.backend.trial_status import Trial  # pyright: ignore[reportMissingImports]

        suggested = self.search.suggest()
        trial = Trial(trial_id=len(self.trials), config=suggested.config, creation_time=datetime.now())
        self.trials.append(trial)
        self.search.on_trial_add(trial)
        return Training(trial.trial_id, np.array([trial.config[name] for name in self.names]))

    def told(self, training: Training, *, is_over: bool) -> bool:
        from syne_tune.optimizer.scheduler import SchedulerDecision  # pyright: ignore[reportMissingImports]

        trial, loss = self.trials[training.number], training.losses[-1]
        is_finite = math.isfinite(loss)
        best = min(training.losses) if is_finite else self.worst
        self.worst = max(self.worst, best)
        result = {"loss": best, "epoch": len(training.losses)}
        if is_over or not is_finite:
            self.search.on_trial_complete(trial, result)
            return True
        return self.search.on_trial_result(trial, result) != SchedulerDecision.CONTINUE
