import itertools
import time
import warnings
from typing import Any, get_args

import numpy as np
import pytest
from sklearn import metrics as sk

from trainables.metrics import (
    METRICS,
    average_precision,
    compute_metrics,
    metric_mode,
    metrics_of,
    objective_names,
    roc_areas,
    tuning_metric,
)
from trainables.task import Task, TaskKind

REGRESSION = Task("regression")


def multiclass(num_classes: int) -> Task:
    return Task("multiclass", tuple(f"c{index}" for index in range(num_classes)))


def multilabel(num_classes: int) -> Task:
    return Task("multilabel", tuple(f"c{index}" for index in range(num_classes)))


def random_logits(rng: np.random.Generator, num_rows: int, num_classes: int, *, has_ties: bool) -> np.ndarray:
    logits = rng.normal(scale=2, size=(num_rows, num_classes))
    return (np.round(logits) if has_ties else logits).astype(np.float32)


def softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def sk_ap(truth: np.ndarray, scores: np.ndarray) -> float:
    return float(sk.average_precision_score(truth, scores)) if truth.any() else 0.0


@pytest.mark.parametrize("has_ties", [False, True])
@pytest.mark.parametrize(("num_rows", "num_classes"), [(200, 5), (331, 18), (40, 2), (7, 12)])
def test_multiclass_against_scikit_learn(has_ties, num_rows, num_classes):
    rng = np.random.default_rng(num_rows)
    logits = random_logits(rng, num_rows, num_classes, has_ties=has_ties)
    labels = rng.integers(0, num_classes, num_rows)
    truth, p, top = np.eye(num_classes, dtype=int)[labels], softmax(logits), logits.argmax(axis=1)
    occurs = [c for c in range(num_classes) if 0 < truth[:, c].sum() < num_rows]
    f1: dict[str, Any] = {"labels": np.arange(num_classes), "zero_division": 0}
    areas = [sk.roc_auc_score(truth[:, c], p[:, c]) for c in occurs]
    assert compute_metrics(logits, labels, multiclass(num_classes)) == pytest.approx(
        {
            "accuracy": sk.accuracy_score(labels, top),
            "micro_f1": sk.f1_score(labels, top, average="micro", **f1),
            "macro_f1": sk.f1_score(labels, top, average="macro", **f1),
            "ap_macro": np.mean([sk_ap(truth[:, c], p[:, c]) for c in range(num_classes)]),
            "ap_micro": sk_ap(truth.ravel(), p.ravel()),
            "auroc": sk.roc_auc_score(labels, p[:, 1]) if num_classes == 2 else np.mean(areas),
        },
        rel=1e-9,
    )


@pytest.mark.parametrize("has_ties", [False, True])
@pytest.mark.parametrize(("num_rows", "num_classes"), [(200, 5), (331, 18), (40, 1), (7, 12)])
def test_multilabel_against_scikit_learn(has_ties, num_rows, num_classes):
    rng = np.random.default_rng(num_rows)
    logits = random_logits(rng, num_rows, num_classes, has_ties=has_ties)
    labels = (rng.random((num_rows, num_classes)) < 0.3).astype(np.float32)
    if num_classes > 2:
        labels[:, 0], labels[:, 1] = 0, 1  # a class that never occurs, and one that always does
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    predicted = (p > 0.5).astype(int)
    truth = labels.astype(int)
    occurs = [c for c in range(num_classes) if 0 < truth[:, c].sum() < num_rows]
    zero: Any = 0  # scikit-learn's stub says str
    f1 = [sk.f1_score(truth[:, c], predicted[:, c], zero_division=zero) for c in range(num_classes)]
    assert compute_metrics(logits, labels, multilabel(num_classes)) == pytest.approx(
        {
            "micro_f1": sk.f1_score(truth.ravel(), predicted.ravel(), zero_division=zero),
            "macro_f1": np.mean(f1),
            "ap_macro": np.mean([sk_ap(truth[:, c], p[:, c]) for c in range(num_classes)]),
            "ap_micro": sk_ap(truth.ravel(), p.ravel()),
            "auroc": np.mean([sk.roc_auc_score(truth[:, c], p[:, c]) for c in occurs]),
        },
        rel=1e-9,
    )


@pytest.mark.parametrize("shape", [(50,), (50, 1)])
def test_regression_against_scikit_learn(shape):
    rng = np.random.default_rng(0)
    outputs, labels = rng.normal(size=(2, 50)).astype(np.float32)
    expected = {"rmse": sk.root_mean_squared_error(labels, outputs), "mae": sk.mean_absolute_error(labels, outputs)}
    assert compute_metrics(outputs.reshape(shape), labels, REGRESSION) == pytest.approx(expected, rel=1e-5)


def test_average_precision_groups_ties():
    scores, truth = np.array([[0.9], [0.8], [0.8], [0.1]]), np.array([[1], [0], [1], [0]], dtype=bool)
    assert average_precision(scores, truth) == pytest.approx([(1 / 1 + 2 / 3) / 2])


def test_average_precision_of_a_constant_is_the_share_of_positives():
    truth = np.array([[1, 1], [0, 0], [0, 1], [0, 0]], dtype=bool)
    assert average_precision(np.zeros((4, 2)), truth).tolist() == [0.25, 0.5]


@pytest.mark.parametrize("has_ties", [False, True])
def test_roc_areas_count_the_pairs_in_order(has_ties):
    rng = np.random.default_rng(4)
    scores, truth = random_logits(rng, 30, 3, has_ties=has_ties), rng.random((30, 3)) < 0.4
    truth[:, 2] = True
    expected = []
    for column in range(2):
        above = scores[truth[:, column], column, None] - scores[~truth[:, column], column]
        expected.append(((above > 0) + 0.5 * (above == 0)).mean())
    assert roc_areas(scores, truth) == pytest.approx([*expected, np.nan], nan_ok=True)


def test_binary_roc_ranks_by_the_second_class():
    logits = np.array([[0, -60], [0, -50]], dtype=np.float32)  # the first class rounds to 1 in both rows, a tie
    assert compute_metrics(logits, np.array([0, 1]), multiclass(2))["auroc"] == 1.0


def test_ranking_does_not_depend_on_the_order_of_rows():
    rng = np.random.default_rng(5)
    logits, labels = random_logits(rng, 60, 4, has_ties=True), rng.integers(0, 4, 60)
    shuffled = rng.permutation(60)
    whole = compute_metrics(logits, labels, multiclass(4))
    assert compute_metrics(logits[shuffled], labels[shuffled], multiclass(4)) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_known_ends(seed):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(4), rng.integers(0, 4, 20)])
    right = compute_metrics(10 * np.eye(4, dtype=np.float32)[labels], labels, multiclass(4))
    assert right == pytest.approx(dict.fromkeys(right, 1.0))
    wrong = compute_metrics(-10 * np.eye(4, dtype=np.float32)[labels], labels, multiclass(4))
    assert wrong["accuracy"] == wrong["macro_f1"] == wrong["auroc"] == 0


def test_the_threshold_is_strict():
    logits, labels = np.zeros((3, 2), dtype=np.float32), np.ones((3, 2), dtype=np.float32)
    assert compute_metrics(logits, labels, multilabel(2))["micro_f1"] == 0
    assert compute_metrics(logits + 1e-6, labels, multilabel(2))["micro_f1"] == 1


@pytest.mark.parametrize("task", [multiclass(2), multiclass(5), multilabel(1), multilabel(5)], ids=str)
def test_degenerate_splits_give_finite_numbers_in_silence(task):
    for num_rows, scores, label in itertools.product((1, 2, 6), ("constant", "random", "huge"), (0, 1)):
        check_degenerate_split(task, num_rows, scores, label)


def check_degenerate_split(task, num_rows, scores, label):
    logits = random_logits(np.random.default_rng(0), num_rows, task.num_outputs, has_ties=False)
    logits = {"constant": np.zeros_like(logits), "random": logits, "huge": logits * np.float32(1e30)}[scores]
    shape = (num_rows,) if task.kind == "multiclass" else logits.shape
    labels = np.full(shape, label, dtype=np.int64 if task.kind == "multiclass" else np.float32)
    with warnings.catch_warnings(), np.errstate(all="raise", under="ignore"):
        warnings.simplefilter("error")
        found = compute_metrics(logits, labels, task)
    assert list(found) == [row.name for row in metrics_of(task.kind) if row.function is not None]
    assert all(type(value) is float and 0 <= value <= 1 for value in found.values())
    assert found["auroc"] == 0.5  # one kind only, everywhere


def test_a_row_is_all_that_a_metric_is():
    assert all(name == row.name and row.about and row.unit and row.kinds for name, row in METRICS.items())
    for kind in get_args(TaskKind):
        assert metrics_of(kind)[0].function is not None and METRICS["loss"] in metrics_of(kind)
        assert {*objective_names(kind)} == {f"val_{row.name}" for row in METRICS.values() if kind in row.kinds}
    for name, row in METRICS.items():
        assert {metric_mode(f"{split}{name}") for split in ("", "train_", "val_", "test_")} == {row.mode}
    with pytest.raises(ValueError, match="'val_acuracy' is unknown, did you mean 'val_accuracy'"):
        metric_mode("val_acuracy")


@pytest.mark.parametrize("task", [multiclass(4), multilabel(4), REGRESSION], ids=lambda task: task.kind)
def test_tuning_metric_is_the_same_number_with_more_as_better(task):
    rng = np.random.default_rng(1)
    logits = random_logits(rng, 50, task.num_outputs, has_ties=False)
    labels = {
        "multiclass": rng.integers(0, 4, 50),
        "multilabel": rng.integers(0, 2, (50, 4)).astype(np.float32),
        "regression": rng.normal(size=50),
    }[task.kind]
    for name, value in compute_metrics(logits, labels, task).items():
        expected = 1 / (1 + value) if task.kind == "regression" else value
        found = tuning_metric(name, logits, labels, task)
        assert found == expected and 0 <= found <= 1


def test_errors_name_what_is_wrong():
    logits, labels = np.zeros((3, 4), dtype=np.float32), np.zeros(3, dtype=np.int64)
    with pytest.raises(ValueError, match="metric 'rmse' does not exist for a multiclass task. Known: accuracy, ap_"):
        tuning_metric("rmse", logits, labels, multiclass(4))
    with pytest.raises(ValueError, match="no rows"):
        compute_metrics(logits[:0], labels[:0], multiclass(4))
    logits[1, 2], logits[2, 2] = np.nan, np.inf
    with pytest.raises(ValueError, match="2 of 12 model outputs are not finite"):
        compute_metrics(logits, labels, multiclass(4))


def test_fast_enough_for_every_epoch():
    rng = np.random.default_rng(0)
    logits, labels = random_logits(rng, 331, 18, has_ties=False), rng.integers(0, 18, 331)
    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        compute_metrics(logits, labels, multiclass(18))
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.01
