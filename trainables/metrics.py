"""Metrics of a whole split in numpy: each is one function of the scores, ranked once and shared
(docs/methods.md#metrics).

F1 with nothing to divide by is 0. A macro average leaves out the classes of which a split says nothing, as
scikit-learn does: F1 those that neither truth nor prediction has, average precision those without positives, the
ROC area those without both kinds; :func:`classes_left_out` counts them.

Sizes: N samples, C classes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np

from trainables.messages import unknown
from trainables.ranking import Array, Ranking
from trainables.task import Task, TaskKind
from trainables.topk import TopLists, queries_of


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
    classes: Callable[[Any], Array] | None = None
    """Which classes of the split its average is over, (C,) bool; None is no such average, or all of them."""
    is_binary: bool = False
    """Only tasks with two classes have it, or multi-label with one."""
    is_ranking: bool = False
    """Only tasks that rank candidates have it, and it needs the ids of the samples."""
    is_of_model: bool = False
    """Models tell it themselves, whatever the task, and some do not have it."""

    def suits(self, task: Task) -> bool:
        """Whether the task has it."""
        return (
            task.kind in self.kinds
            and not self.is_of_model
            and (task.is_binary or not self.is_binary)
            and (task.is_ranking or not self.is_ranking)
        )


def metrics_of(task: Task) -> tuple[Metric, ...]:
    """The rows for a task; the first is what it is tuned by."""
    return tuple(row for row in METRICS.values() if row.suits(task))


def objective_names(task: Task | None = None) -> tuple[str, ...]:
    """What can be an objective, e.g. 'val_accuracy': metrics of the validation split, of one task or of all."""
    told = tuple(row for row in METRICS.values() if row.is_of_model)
    rows = METRICS.values() if task is None else (*metrics_of(task), *told)
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


def compute_metrics(logits: Array, labels: Array, task: Task, *, ids: Sequence[str] | None = None) -> dict[str, float]:
    """Every metric of the task by its name without prefix, see ``METRICS``; without the loss.

    Args:
        logits: (N, C) raw outputs; a regression also takes (N,).
        labels: (N,) class numbers multi-class, (N, C) in [0, 1] multi-label with > 0.5 a positive, (N,) regression.
        task: which metrics there are.
        ids: N, which name what a sample is a candidate of; None leaves out the metrics that need them.

    Raises:
        ValueError: no rows, or an output that is not finite.
    """
    split, known = _checked_split(logits, labels, task, ids), metrics_of(task)
    rows = [row for row in known if ids is not None or not row.is_ranking]
    return {row.name: row.function(split) for row in rows if row.function is not None}


def classes_left_out(logits: Array, labels: Array, task: Task) -> dict[str, int]:
    """For each metric that is a mean over classes, how many classes of the task it leaves out in this split.

    Args:
        logits: as for :func:`compute_metrics`.
        labels: as for :func:`compute_metrics`.
        task: which metrics there are.

    Raises:
        ValueError: as :func:`compute_metrics`.
    """
    split = _checked_split(logits, labels, task)
    return {row.name: int((~row.classes(split)).sum()) for row in metrics_of(task) if row.classes is not None}


def metric_value(name: str, logits: Array, labels: Array, task: Task) -> float:
    """One metric by its name without prefix; see :func:`compute_metrics`.

    Raises:
        ValueError: a name that this kind of task does not have, no rows, or an output that is not finite.
    """
    known = {row.name: row.function for row in metrics_of(task) if row.function is not None}
    if name not in known:
        raise ValueError(f"metric '{name}' does not exist for a {task.kind} task. Known: {', '.join(known)}")
    if METRICS[name].is_ranking:
        raise ValueError(f"metric '{name}' is one of whole users, not of single samples; choose another")
    return known[name](_checked_split(logits, labels, task))


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
    value = metric_value(name, logits, labels, task)
    return 1 / (1 + value) if metric_mode(name) == "min" else value


class _Classified:
    """A classification split: scores to rank, decisions, truth; each (N, C)."""

    def __init__(self, logits: Array, labels: Array, task: Task, ids: Sequence[str] | None = None) -> None:
        self.logits, self.labels, self.task, self.ids = logits, labels, task, ids
        if task.kind == "multiclass":
            classes = np.arange(task.num_outputs)
            self.is_predicted = logits.argmax(axis=1)[:, None] == classes
            self.is_true = labels.reshape(-1, 1) == classes
        else:
            self.is_predicted = logits > 0  # sigmoid > 0.5, strict
            self.is_true = labels > 0.5

    @cached_property
    def scores(self) -> Array:
        """Softmax; of a multi-label task the logits: a sigmoid keeps the order, and would tie what it saturates."""
        if self.task.kind == "multilabel":
            return self.logits
        odds = np.exp(self.logits - self.logits.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)

    @cached_property
    def by_class(self) -> Ranking:
        return Ranking(self.scores, self.is_true)

    @cached_property
    def top_lists(self) -> TopLists:
        assert self.ids is not None
        return TopLists(self.logits[:, 1] - self.logits[:, 0], self.is_true[:, 1], queries_of(self.ids))

    @cached_property
    def num_hits(self) -> Array:
        return (self.is_predicted & self.is_true).sum(axis=0)

    @cached_property
    def num_true(self) -> Array:
        return self.is_true.sum(axis=0)

    @cached_property
    def num_claims(self) -> Array:
        """Predicted plus true positives of each class: the denominator of F1."""
        return self.is_predicted.sum(axis=0) + self.num_true

    @cached_property
    def f1(self) -> Array:
        """Of each class; 0 where there is nothing to divide by."""
        return 2 * self.num_hits / np.maximum(self.num_claims, 1)


class _Regressed:
    """A regression split."""

    def __init__(self, logits: Array, labels: Array) -> None:
        self.errors = logits.reshape(-1) - labels.reshape(-1)


def _checked_split(logits: Array, labels: Array, task: Task, ids: Sequence[str] | None = None) -> Any:
    logits = np.asarray(logits, dtype=np.float64)
    labels = np.asarray(labels)
    if len(logits) == 0:
        raise ValueError("metrics: no rows")
    num_bad = int((~np.isfinite(logits)).sum())
    if num_bad:
        raise ValueError(f"metrics: {num_bad} of {logits.size} model outputs are not finite")
    if task.kind == "regression":
        assert logits.size == labels.size == len(logits)
        return _Regressed(logits, labels.astype(np.float64))
    assert logits.shape == (len(logits), task.num_outputs)
    assert labels.shape == (logits.shape if task.kind == "multilabel" else logits.shape[:1])
    return _Classified(logits, labels, task, ids)


def _claimed(split: _Classified) -> Array:
    return split.num_claims > 0


def _with_positives(split: _Classified) -> Array:
    return split.num_true > 0


def _with_both_kinds(split: _Classified) -> Array:
    return (split.num_true > 0) & (split.num_true < len(split.is_true))


def _mean(values_C: Array, weights_C: Array) -> float:
    """Weighted by ``weights_C``, or over the classes that it marks; 0 if there are none."""
    return float((values_C * weights_C).sum() / weights_C.sum()) if weights_C.any() else 0.0


def _accuracy(split: _Classified) -> float:
    return float(split.num_hits.sum() / len(split.is_true))


def _vqa_accuracy(split: _Classified) -> float:
    return float(np.take_along_axis(split.labels, split.logits.argmax(axis=1)[:, None], axis=1).mean(dtype=np.float64))


def _subset_accuracy(split: _Classified) -> float:
    return float((split.is_predicted == split.is_true).all(axis=1).mean())


def _hamming_loss(split: _Classified) -> float:
    return float((split.is_predicted != split.is_true).mean())


def _f1(split: _Classified) -> float:
    return float(split.f1[split.task.positive if split.task.num_outputs > 1 else 0])


def _macro_f1(split: _Classified) -> float:
    return _mean(split.f1, _claimed(split))


def _weighted_f1(split: _Classified) -> float:
    return _mean(split.f1, split.num_true)


def _micro_f1(split: _Classified) -> float:
    return float(2 * split.num_hits.sum() / max(split.num_claims.sum(), 1))


def _ap_macro(split: _Classified) -> float:
    return _mean(split.by_class.average_precision, _with_positives(split))


def _ap_weighted(split: _Classified) -> float:
    return _mean(split.by_class.average_precision, split.num_true)


def _ap_micro(split: _Classified) -> float:
    return float(Ranking(split.scores.reshape(-1, 1), split.is_true.reshape(-1, 1)).average_precision[0])


def _auroc(split: _Classified) -> float:
    areas = split.by_class.roc_areas
    if split.task.kind == "multiclass" and split.task.is_binary:
        areas = areas[1:]  # that of the first class is the same but for rounding
    areas = areas[~np.isnan(areas)]
    return float(areas.mean()) if areas.size else 0.5


def _rmse(split: _Regressed) -> float:
    return float(np.sqrt(np.square(split.errors).mean()))


def _mae(split: _Regressed) -> float:
    return float(np.abs(split.errors).mean())


_TOP, _NEAR = (5, 10, 20), (1, 5, 10)
_ONE: tuple[TaskKind, ...] = ("multiclass",)
_MANY: tuple[TaskKind, ...] = ("multilabel",)
_CLASSES: tuple[TaskKind, ...] = ("multiclass", "multilabel")
_NUMBER: tuple[TaskKind, ...] = ("regression",)
_EVERY: tuple[TaskKind, ...] = get_args(TaskKind)
_SHARE, _ERROR, _LOSS = "0 to 1", "the target's", "nats; of a regression squared deviations of its labels"


def _of_users(name: str, about: str, function: Callable[[TopLists], float]) -> Metric:
    return Metric(name, _ONE, "max", about, _SHARE, lambda split: function(split.top_lists), is_ranking=True)


def _of_model(name: str, about: str) -> Metric:
    return Metric(name, _EVERY, "max", about, _SHARE, None, is_of_model=True)


_ROWS = (  # of each kind of task the first is what it is tuned by
    Metric("accuracy", _ONE, "max", "samples whose top class is right", _SHARE, _accuracy),
    Metric("ap_micro", _CLASSES, "max", "average precision over all (sample, class) pairs", _SHARE, _ap_micro),
    Metric(
        "ap_macro", _CLASSES, "max", "average precision, mean over classes with positives", _SHARE, _ap_macro,
        _with_positives,
    ),
    Metric("ap_weighted", _CLASSES, "max", "average precision, classes weighted by rows", _SHARE, _ap_weighted),
    Metric("micro_f1", _CLASSES, "max", "F1 over all decisions; accuracy when multi-class", _SHARE, _micro_f1),
    Metric(
        "macro_f1", _CLASSES, "max", "F1, mean over the classes in truth or prediction", _SHARE, _macro_f1, _claimed
    ),
    Metric("weighted_f1", _CLASSES, "max", "F1, classes weighted by rows", _SHARE, _weighted_f1),
    Metric("f1", _CLASSES, "max", "F1 of the positive class, see positive_class", _SHARE, _f1, is_binary=True),
    Metric("subset_accuracy", _MANY, "max", "samples with every class decided right", _SHARE, _subset_accuracy),
    Metric("hamming_loss", _MANY, "min", "decisions that are wrong", _SHARE, _hamming_loss),
    Metric("vqa_accuracy", _MANY, "max", "what the top class counts in a soft truth", _SHARE, _vqa_accuracy),
    Metric(
        "auroc", _CLASSES, "max", "area under the ROC curve, mean over classes with both kinds", _SHARE, _auroc,
        _with_both_kinds,
    ),
    *(_of_users(f"recall_at_{k}", f"what a user took, of the first {k}", lambda top, k=k: top.recall(k)) for k in _TOP),
    *(_of_users(f"ndcg_at_{k}", f"as recall, earlier places more, {k}", lambda top, k=k: top.ndcg(k)) for k in _TOP),
    _of_users("mrr", "1 / place of the first that a user took", TopLists.reciprocal_rank),
    *(_of_model(f"image_to_text_recall_at_{k}", f"images whose text is among the nearest {k}") for k in _NEAR),
    *(_of_model(f"text_to_image_recall_at_{k}", f"texts with a picture among the nearest {k}") for k in _NEAR),
    Metric("rmse", _NUMBER, "min", "root mean squared error", _ERROR, _rmse),
    Metric("mae", _NUMBER, "min", "mean absolute error", _ERROR, _mae),
    Metric("loss", _EVERY, "min", "supervised loss, unweighted and unsmoothed", _LOSS, None),
)  # fmt: skip
METRICS: dict[str, Metric] = {row.name: row for row in _ROWS}
