"""Samplers by name: each a function of the seed (and the spec's options) that returns an Optuna sampler.

A fresh sampler is made for every trial, seeded from (study seed, trial number); what it has learnt lies in
the Optuna storage. A study's next proposal is therefore a function of its folder, and resuming needs no
pickled sampler.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import (
    BaseSampler,
    BruteForceSampler,
    GPSampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)


def _tpe(seed: int, study_seed: int, options: Mapping[str, Any]) -> BaseSampler:
    settings = {"multivariate": True, "group": True, "constant_liar": True, "n_startup_trials": 8, **options}
    return TPESampler(seed=seed, **settings)


def _qmc(seed: int, study_seed: int, options: Mapping[str, Any]) -> BaseSampler:
    return QMCSampler(seed=study_seed, **{"scramble": True, **options})  # one sequence: the same seed for all trials


SAMPLERS: dict[str, Callable[[int, int, Mapping[str, Any]], BaseSampler]] = {
    "tpe": _tpe,
    "random": lambda seed, study_seed, options: RandomSampler(seed=seed),
    "qmc": _qmc,
    "nsga2": lambda seed, study_seed, options: NSGAIISampler(seed=seed, **options),
    "gp": lambda seed, study_seed, options: GPSampler(seed=seed, **options),
    "brute_force": lambda seed, study_seed, options: BruteForceSampler(seed=seed),
}


def make_sampler(name: str, *, study_seed: int, number: int, options: Mapping[str, Any]) -> BaseSampler:
    """The sampler that proposes trial ``number``."""
    from trainables.seeds import derive_seed

    seed = derive_seed(study_seed, "sampler", number) % 2**32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return SAMPLERS[name](seed, study_seed % 2**32, options)
