"""How far a trial has come: the best epoch, patience, plateau, and the rows that it reported."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from trainables.config import TrialConfig
from trainables.metrics import METRICS, metric_mode, metrics_of, objective_names
from trainables.task import Task

Row = dict[str, Any]


@dataclass
class Progress:
    """What changes from epoch to epoch beside the model; JSON-able as a whole.

    Attributes:
        epoch: the last finished one, from 1; 0 before.
        best_epoch: the first with the best objective; 0 before the first epoch.
        best_value: its objective.
        bad_epochs: epochs since then, which patience counts.
        plateau_factor: what the plateau schedule multiplies the learning rate by.
        plateau_bad: epochs without a better objective since the best or the last reduction.
        reason: why training is over, 'epochs' or 'patience'; None while it is not.
        reports: a row an epoch.
    """

    epoch: int = 0
    best_epoch: int = 0
    best_value: float | None = None
    bad_epochs: int = 0
    plateau_factor: float = 1.0
    plateau_bad: int = 0
    reason: str | None = None
    reports: list[Row] = field(default_factory=list)

    def advance(self, row: Row, config: TrialConfig) -> None:
        """Takes in the row of a finished epoch: is it the best, is the plateau reached, was it the last one?"""
        self.epoch = row["epoch"]
        self.reports.append(row)
        value, best = row[config.objective], self.best_value
        is_min = metric_mode(config.objective) == "min"
        if best is None or (value < best if is_min else value > best):
            self.best_epoch, self.best_value = self.epoch, value
            self.bad_epochs = self.plateau_bad = 0
        else:
            self.bad_epochs += 1
            self.plateau_bad += 1
        if config.optim.schedule == "plateau" and self.plateau_bad > config.optim.plateau_patience:
            self.plateau_factor *= config.optim.plateau_factor
            self.plateau_bad = 0
        if self.epoch >= config.epochs:
            self.reason = "epochs"
        elif config.patience is not None and self.bad_epochs >= config.patience:
            self.reason = "patience"


def overfitting(row: Row, before: list[Row]) -> Row:
    """``ogr``, by how much faster the model overfits than it generalises (Wang et al. 2020), of an epoch's row.

    With O = L^V - L^T, |O_i - O_{i-1}| / |L^V_{i-1} - L^V_i|; none in the first epoch and where L^V stood still.

    Args:
        row: with ``val_supervised``, L^V, and ``train_clean``, L^T.
        before: the rows of earlier epochs.
    """
    if not before:
        return {}
    val, last_val = row["val_supervised"], before[-1]["val_supervised"]
    gap, last_gap = val - row["train_clean"], last_val - before[-1]["train_clean"]
    return {} if val == last_val else {"ogr": abs((gap - last_gap) / (last_val - val))}


def check_objective(objective: str, task: Task) -> None:
    """Refuses what this task does not have.

    Raises:
        ValueError: with the objectives that there are.
    """
    known = objective_names(task)
    if objective not in known:
        raise ValueError(f"objective '{objective}' does not exist for a {task.kind} task. Known: {', '.join(known)}")


def training_metric(objective: str, task: Task) -> str:
    """The metric that is also computed on training inputs: the objective, or the task's first if that is the loss,
    one of whole users, or of the model."""
    name = objective.removeprefix("val_")
    row = METRICS[name]
    is_of_rows = name != "loss" and not row.is_ranking and not row.is_of_model
    return name if is_of_rows else metrics_of(task)[0].name
