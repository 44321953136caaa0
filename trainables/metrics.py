"""Metrics of a whole split in numpy: each is one function of the scores, ranked once and shared
(docs/methods.md#metrics).

Average precision is scikit-learn's: a step function, ties grouped; F1 with nothing to divide by is 0. All
classes of the task enter every macro average, whether or not the split has them: a class without positives
has F1 and average precision 0. Only the ROC area, which does not exist without both kinds, averages over the
classes that have both, and is 0.5 (chance) where none has.

Sizes: N samples, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from trainables.task import Task

Array = np.ndarray[Any, Any]


def compute_metrics(logits: Array, labels: Array, task: Task) -> dict[str, float]:
    """Every metric of the task by its name without prefix, see ``METRICS``.

    Args:
        logits: (N, C) raw outputs; a regression also takes (N,).
        labels: (N,) class numbers multi-class, (N, C) multi-label with > 0.5 a positive, (N,) regression.
        task: which metrics there are.

    Raises:
        ValueError: no rows, or an output that is not finite.
    """
    split = _checked_split(logits, labels, task)
    return {name: metric(split) for name, metric in METRICS[task.kind].items()}


def tuning_metric(name: str, logits: Array, labels: Array, task: Task) -> float:
    """One metric in [0, 1] where more is better: M^T of dynamic lambda.

    A regression's errors come as 1 / (1 + error); the others are what :func:`compute_metrics` gives.

    Args:
        name: a key of ``METRICS[task.kind]``; the first one is the usual choice.
        logits: as for :func:`compute_metrics`.
        labels: as for :func:`compute_metrics`.
        task: which metrics there are.

    Raises:
        ValueError: a name that this kind of task does not have, no rows, or an output that is not finite.
    """
    known = METRICS[task.kind]
    if name not in known:
        raise ValueError(f"metric '{name}' does not exist for a {task.kind} task. Known: {', '.join(known)}")
    value = known[name](_checked_split(logits, labels, task))
    return 1 / (1 + value) if task.kind == "regression" else value


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


_LABELLED: dict[str, Callable[[Any], float]] = {
    "ap_micro": _ap_micro,
    "ap_macro": _ap_macro,
    "micro_f1": _micro_f1,
    "macro_f1": _macro_f1,
    "auroc": _auroc,
}
METRICS: dict[str, dict[str, Callable[[Any], float]]] = {
    "multiclass": {"accuracy": _accuracy, **_LABELLED},
    "multilabel": _LABELLED,
    "regression": {"rmse": _rmse, "mae": _mae},
}
