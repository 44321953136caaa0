"""Which parameters decide: Optuna's importance evaluators over the ended trials, over all and within each family.

PED-ANOVA (Watanabe et al. 2023) asks how far the best tenth of the trials lie elsewhere than all; fANOVA (Hutter et al.
2014) what share of the variance a forest explains by the parameter (it needs scikit-learn). Shares add up to 1. Only
parameters that every trial of a group has can be compared; those that exist under a condition are left out and named.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from analysis.best import numbers, usable_trials
from trainables.messages import unknown

EVALUATORS = ("ped_anova", "fanova")
ALL = "all"  # the group of all trials
FEWEST = 8  # trials of a group
_MOST = 1000  # trials of a group; of more the latest


def importances(
    table: pd.DataFrame, metric: str, mode: str, *, evaluator: str = EVALUATORS[0], seed: int = 1
) -> pd.DataFrame:
    """One row a group and parameter, the most important first: group, parameter, importance, trials.

    Args:
        table: what ``load_studies`` returns.
        metric: which it is about.
        mode: of the metric, 'max' or 'min'.
        evaluator: 'ped_anova' or 'fanova'.
        seed: of fANOVA's forest.

    The group is 'all' or a family. One of fewer than 8 trials, or with the same metric throughout, has no rows; a
    parameter that exists under a condition has one with an empty importance.

    Raises:
        ValueError: an unknown evaluator, or fANOVA without scikit-learn.
    """
    if evaluator not in EVALUATORS:
        raise ValueError(f"--evaluator: {unknown(evaluator, EVALUATORS)}")
    trials = usable_trials(table, metric).tail(_MOST)
    params = [name for name in table.attrs.get("params", ()) if name not in ("seed", "finalist")]
    families = sorted(set(trials["family"]))
    groups = {ALL: (trials, ["family", *params])} if len(families) > 1 else {}
    groups |= {family: (trials.loc[trials["family"] == family], params) for family in families}
    rows = []
    for group, (own, names) in groups.items():
        values = numbers(own, metric).to_numpy()
        if len(own) < FEWEST or np.ptp(values) == 0:
            continue
        columns = {name: _column(own.loc[:, name]) for name in names}
        columns = {name: cells for name, cells in columns.items() if set(cells) != {None}}
        shared = {name: cells for name, cells in columns.items() if None not in cells and len(set(cells)) > 1}
        shares = _shares(shared, values, mode, evaluator, seed) if shared else {}
        partial = [name for name, cells in columns.items() if None in cells]
        shares = dict(sorted(shares.items(), key=lambda item: -item[1])) | dict.fromkeys(partial, math.nan)
        for name, share in shares.items():
            rows.append({"group": group, "parameter": name, "importance": share, "trials": len(own)})
    return pd.DataFrame(rows, columns=["group", "parameter", "importance", "trials"])


def _column(cells: pd.Series) -> list[Any]:
    return [None if pd.isna(cell) else cell for cell in cells.astype(object)]


def _shares(
    columns: dict[str, list[Any]], values: np.ndarray, mode: str, evaluator: str, seed: int
) -> dict[str, float]:
    """Parameter -> its share, by a study in memory that has these trials."""
    import optuna
    from optuna.importance import get_param_importances

    domains = {name: _domain(cells) for name, cells in columns.items()}
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize" if mode == "max" else "minimize")
    optuna.logging.set_verbosity(verbosity)
    study.add_trials(
        [
            optuna.trial.create_trial(
                params={name: domains[name][1](cells[at]) for name, cells in columns.items()},
                distributions={name: domain for name, (domain, _) in domains.items()},
                value=float(value),
            )
            for at, value in enumerate(values)
        ]
    )
    try:
        return get_param_importances(study, evaluator=_evaluator(evaluator, seed), params=list(columns))
    except ImportError:
        raise ValueError("fanova needs scikit-learn: pip install scikit-learn") from None


def _evaluator(name: str, seed: int) -> Any:
    from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator

    return FanovaImportanceEvaluator(seed=seed) if name == "fanova" else PedAnovaImportanceEvaluator()


def _domain(cells: list[Any]) -> tuple[Any, Callable[[Any], Any]]:
    """Where these values lie: numbers between the least and the most, by logarithms over more than a factor 10."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if any(isinstance(cell, (bool, str)) for cell in cells):
        return CategoricalDistribution(sorted({str(cell) for cell in cells})), str
    low, high = min(cells), max(cells)
    return FloatDistribution(low, high, log=low > 0 and high > 10 * low), float
