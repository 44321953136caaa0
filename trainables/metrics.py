"""Metrics of a whole split in numpy: each is one function of the scores, ranked once and shared
(docs/methods.md#metrics).

Average precision is scikit-learn's: a step function, ties grouped; F1 with nothing to divide by is 0. All
classes of the task enter every macro average, whether or not the split has them: a class without positives
has F1 and average precision 0. Only the ROC area, which does not exist without both kinds, averages over the
classes that have both, and is 0.5 (chance) where none has.

Sizes: N samples, C classes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np

from trainables.messages import unknown
from trainables.task import Task, TaskKind

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Metric:
    """A row of ``METRICS``, from which search files, the loop, lists and reports take what a metric is."""

    name: str
    """Without prefix: it is reported as val_<name> and test_<name>."""
    kinds: tuple[TaskKind, ...]
    """Of the tasks that have it."""
    mode: Literal["max", "min"]
    """Which way is better."""
    about: str
    unit: str
    function: Callable[[Any], float] | None
    """Of the split; None is what the loop has summed up anyway."""


def metrics_of(kind: TaskKind) -> tuple[Metric, ...]:
    """The rows for a kind of task; the first is what it is tuned by."""
    return tuple(row for row in METRICS.values() if kind in row.kinds)


def objective_names(kind: TaskKind | None = None) -> tuple[str, ...]:
    """What can be an objective, e.g. 'val_accuracy': metrics of the validation split, of one kind of task or of all."""
    rows = METRICS.values() if kind is None else metrics_of(kind)
    return tuple(f"val_{row.name}" for row in rows)


def metric_mode(name: str) -> Literal["max", "min"]:
    """Which way a metric is better; 'accuracy', 'val_accuracy', 'test_accuracy' and 'train_accuracy' are one.

    Raises:
        ValueError: there is no such metric.
    """
    row = METRICS.get(re.sub("^(train|val|test)_", "", name))
    if row is None:
        raise ValueError(f"metric {unknown(name, objective_names())}")
    return row.mode


def compute_metrics(logits: Array, labels: Array, task: Task) -> dict[str, float]:
    """Every metric of the task by its name without prefix, see ``METRICS``; without the loss.

    Args:
        logits: (N, C) raw outputs; a regression also takes (N,).
        labels: (N,) class numbers multi-class, (N, C) multi-label with > 0.5 a positive, (N,) regression.
        task: which metrics there are.

    Raises:
        ValueError: no rows, or an output that is not finite.
    """
    split = _checked_split(logits, labels, task)
    return {row.name: row.function(split) for row in metrics_of(task.kind) if row.function is not None}


def tuning_metric(name: str, logits: Array, labels: Array, task: Task) -> float:
    """One metric in [0, 1] where more is better: M^T of dynamic lambda.

    Errors, of which less is better, come as 1 / (1 + error); the others are what :func:`compute_metrics` gives.

    Args:
        name: of a row of ``METRICS`` with a function; the first of :func:`metrics_of` is the usual choice.
        logits: as for :func:`compute_metrics`.
        labels: as for :func:`compute_metrics`.
        task: which metrics there are.

    Raises:
        ValueError: a name that this kind of task does not have, no rows, or an output that is not finite.
    """
    known = {row.name: row.function for row in metrics_of(task.kind) if row.function is not None}
    if name not in known:
        raise ValueError(f"metric '{name}' does not exist for a {task.kind} task. Known: {', '.join(known)}")
    value = known[name](_checked_split(logits, labels, task))
    return 1 / (1 + value) if metric_mode(name) == "min" else value


def average_precision(scores: Array, is_positive: Array) -> Array:
    """Area under the precision-recall steps of each column, ties grouped; 0 in a column without positives.

    Args:
        scores: (N, C), only their order counts.
        is_positive: (N, C) bool.

    Returns:
        (C,).
    """
    return _Ranking(scores, is_positive).average_precision


def roc_areas(scores: Array, is_positive: Array) -> Array:
    """Area under the ROC curve of each column, ties counting half; nan in a column with one kind only.

    Args:
        scores: (N, C), only their order counts.
        is_positive: (N, C) bool.

    Returns:
        (C,).
    """
    return _Ranking(scores, is_positive).roc_areas


class _Ranking:
    """Columns of scores in falling order, and the group of equal scores that each place belongs to."""

    def __init__(self, scores: Array, is_positive: Array) -> None:
        num_rows, num_columns = scores.shape
        order = np.argsort(-scores, axis=0)
        ranked = np.take_along_axis(scores, order, axis=0)
        self.is_positive = np.take_along_axis(is_positive, order, axis=0)
        place = np.arange(num_rows)[:, None]
        is_step = ranked[1:] != ranked[:-1]
        edge = np.ones((1, num_columns), dtype=bool)
        last_place = np.where(np.concatenate([is_step, edge]), place, num_rows)
        self.group_end = np.minimum.accumulate(last_place[::-1], axis=0)[::-1]  # place of the group's last
        first_place = np.where(np.concatenate([edge, is_step]), place, 0)
        self.group_start = np.maximum.accumulate(first_place, axis=0)
        self.num_rows = num_rows
        self.num_positives = self.is_positive.sum(axis=0)

    @property
    def average_precision(self) -> Array:
        true_positives = np.take_along_axis(self.is_positive.cumsum(axis=0), self.group_end, axis=0)
        precision = true_positives / (self.group_end + 1)
        return (precision * self.is_positive).sum(axis=0) / np.maximum(self.num_positives, 1)

    @property
    def roc_areas(self) -> Array:
        mean_place = (self.group_start + self.group_end) / 2  # 0 is best; Mann-Whitney with midranks
        num_negatives = self.num_rows - self.num_positives
        places = (mean_place * self.is_positive).sum(axis=0)
        num_wrong_pairs = places - self.num_positives * (self.num_positives - 1) / 2
        num_pairs = self.num_positives * num_negatives
        areas = 1 - num_wrong_pairs / np.maximum(num_pairs, 1)
        return np.where(num_pairs > 0, areas, np.nan)


class _Classified:
    """A classification split: scores to rank, decisions, truth; each (N, C)."""

    def __init__(self, logits: Array, labels: Array, task: Task) -> None:
        self.is_binary = task.kind == "multiclass" and task.num_outputs == 2
        if task.kind == "multiclass":
            classes = np.arange(task.num_outputs)
            odds = np.exp(logits - logits.max(axis=1, keepdims=True))
            self.scores = odds / odds.sum(axis=1, keepdims=True)
            self.is_predicted = logits.argmax(axis=1)[:, None] == classes
            self.is_true = labels.reshape(-1, 1) == classes
        else:
            self.scores = logits  # sigmoid keeps the order, and would tie what it saturates
            self.is_predicted = logits > 0  # sigmoid > 0.5, strict
            self.is_true = labels > 0.5

    @cached_property
    def by_class(self) -> _Ranking:
        return _Ranking(self.scores, self.is_true)

    @cached_property
    def num_hits(self) -> Array:
        return (self.is_predicted & self.is_true).sum(axis=0)

    @cached_property
    def num_claims(self) -> Array:
        """Predicted plus true positives of each class: the denominator of F1."""
        return self.is_predicted.sum(axis=0) + self.is_true.sum(axis=0)


class _Regressed:
    """A regression split."""

    def __init__(self, logits: Array, labels: Array, task: Task) -> None:
        self.errors = logits.reshape(-1) - labels.reshape(-1)


def _checked_split(logits: Array, labels: Array, task: Task) -> Any:
    logits = np.asarray(logits, dtype=np.float64)
    labels = np.asarray(labels)
    if len(logits) == 0:
        raise ValueError("metrics: no rows")
    num_bad = int((~np.isfinite(logits)).sum())
    if num_bad:
        raise ValueError(f"metrics: {num_bad} of {logits.size} model outputs are not finite")
    if task.kind == "regression":
        assert logits.size == labels.size == len(logits)
        return _Regressed(logits, labels.astype(np.float64), task)
    assert logits.shape == (len(logits), task.num_outputs)
    assert labels.shape == (logits.shape if task.kind == "multilabel" else logits.shape[:1])
    return _Classified(logits, labels, task)


def _accuracy(split: _Classified) -> float:
    return float(split.num_hits.sum() / len(split.scores))


def _macro_f1(split: _Classified) -> float:
    return float((2 * split.num_hits / np.maximum(split.num_claims, 1)).mean())


def _micro_f1(split: _Classified) -> float:
    return float(2 * split.num_hits.sum() / max(split.num_claims.sum(), 1))


def _ap_macro(split: _Classified) -> float:
    return float(split.by_class.average_precision.mean())


def _ap_micro(split: _Classified) -> float:
    return float(average_precision(split.scores.reshape(-1, 1), split.is_true.reshape(-1, 1))[0])


def _auroc(split: _Classified) -> float:
    areas = split.by_class.roc_areas
    areas = areas[1:] if split.is_binary else areas[~np.isnan(areas)]
    return float(areas.mean()) if areas.size and not np.isnan(areas).any() else 0.5


def _rmse(split: _Regressed) -> float:
    return float(np.sqrt(np.square(split.errors).mean()))


def _mae(split: _Regressed) -> float:
    return float(np.abs(split.errors).mean())


_ONE: tuple[TaskKind, ...] = ("multiclass",)
_CLASSES: tuple[TaskKind, ...] = ("multiclass", "multilabel")
_NUMBER: tuple[TaskKind, ...] = ("regression",)
_SHARE, _ERROR, _LOSS = "0 to 1", "the target's", "nats; of a regression the target's, squared"
_ROWS = (  # of each kind of task the first is what it is tuned by
    Metric("accuracy", _ONE, "max", "samples whose top class is right", _SHARE, _accuracy),
    Metric("ap_micro", _CLASSES, "max", "average precision over all (sample, class) pairs", _SHARE, _ap_micro),
    Metric("ap_macro", _CLASSES, "max", "average precision, mean over classes; 0 without positives", _SHARE, _ap_macro),
    Metric("micro_f1", _CLASSES, "max", "F1 over all decisions; accuracy when multi-class", _SHARE, _micro_f1),
    Metric("macro_f1", _CLASSES, "max", "F1, mean over classes; multi-label at probability > 0.5", _SHARE, _macro_f1),
    Metric("auroc", _CLASSES, "max", "area under the ROC curve, mean over the classes that occur", _SHARE, _auroc),
    Metric("rmse", _NUMBER, "min", "root mean squared error", _ERROR, _rmse),
    Metric("mae", _NUMBER, "min", "mean absolute error", _ERROR, _mae),
    Metric("loss", get_args(TaskKind), "min", "supervised loss, unweighted and unsmoothed", _LOSS, None),
)
METRICS: dict[str, Metric] = {row.name: row for row in _ROWS}
