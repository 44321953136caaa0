import itertools
import time
import warnings
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

from trainables.metrics import (
    METRICS,
    classes_left_out,
    compute_metrics,
    metric_mode,
    metrics_of,
    objective_names,
    tuning_metric,
)
from trainables.task import Task

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
    areas = [sk.roc_auc_score(truth[:, c], p[:, c]) for c in occurs]
    expected = {
        "accuracy": sk.accuracy_score(labels, top),
        "micro_f1": sk.f1_score(labels, top, average="micro"),
        "macro_f1": sk.f1_score(labels, top, average="macro"),
        "weighted_f1": sk.f1_score(labels, top, average="weighted"),
        "ap_macro": np.mean([sk_ap(truth[:, c], p[:, c]) for c in occurs]),
        "ap_weighted": sk.average_precision_score(truth[:, occurs], p[:, occurs], average="weighted"),
        "ap_micro": sk_ap(truth.ravel(), p.ravel()),
        "auroc": sk.roc_auc_score(labels, p[:, 1]) if num_classes == 2 else np.mean(areas),
    }
    if num_classes == 2:
        expected["f1"] = sk.f1_score(labels, top)
    task = multiclass(num_classes)
    assert compute_metrics(logits, labels, task) == pytest.approx(expected, rel=1e-9)
    assert classes_left_out(logits, labels, task) == {
        "ap_macro": num_classes - len(occurs),
        "macro_f1": num_classes - len({*labels, *top}),
        "auroc": num_classes - len(occurs),
    }


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
    positive = [c for c in range(num_classes) if truth[:, c].any()]
    left_out: Any = np.nan  # scikit-learn's stub says str
    f1 = [sk.f1_score(truth[:, c], predicted[:, c], zero_division=left_out) for c in range(num_classes)]
    expected = {
        "micro_f1": sk.f1_score(truth.ravel(), predicted.ravel()),
        "macro_f1": np.nanmean(f1),
        "weighted_f1": np.average(np.nan_to_num(f1), weights=truth.sum(axis=0)),
        "ap_macro": np.mean([sk_ap(truth[:, c], p[:, c]) for c in positive]),
        "ap_weighted": np.average([sk_ap(truth[:, c], p[:, c]) for c in positive], weights=truth[:, positive].sum(0)),
        "ap_micro": sk_ap(truth.ravel(), p.ravel()),
        "auroc": np.mean([sk.roc_auc_score(truth[:, c], p[:, c]) for c in occurs]),
        "subset_accuracy": sk.accuracy_score(truth, predicted),
        "hamming_loss": sk.hamming_loss(truth, predicted),
        "vqa_accuracy": np.mean([row[top] for row, top in zip(truth, logits.argmax(axis=1), strict=True)]),
    }
    if num_classes == 1:
        expected["f1"] = sk.f1_score(truth[:, 0], predicted[:, 0])
    task = multilabel(num_classes)
    assert compute_metrics(logits, labels, task) == pytest.approx(expected, rel=1e-9)
    assert classes_left_out(logits, labels, task) == {
        "ap_macro": num_classes - len(positive),
        "macro_f1": int(np.isnan(f1).sum()),
        "auroc": num_classes - len(occurs),
    }


def test_perfect_predictions_score_1_though_classes_are_absent():
    labels = np.array([0, 2, 5, 5])
    logits = 10 * np.eye(7)[labels]
    found = compute_metrics(logits, labels, multiclass(7))
    assert found == pytest.approx(dict.fromkeys(found, 1.0))
    assert classes_left_out(logits, labels, multiclass(7)) == {"ap_macro": 4, "macro_f1": 4, "auroc": 4}
    logits[3] = 10 * np.eye(7)[6]  # a class that is predicted is not left out: its F1 is 0
    assert compute_metrics(logits, labels, multiclass(7))["macro_f1"] == pytest.approx((1 + 1 + 2 / 3 + 0) / 4)
    assert classes_left_out(logits, labels, multiclass(7))["macro_f1"] == 3


@pytest.mark.parametrize("positive", ["c0", "c1"])
def test_f1_is_of_the_positive_class(positive):
    rng = np.random.default_rng(8)
    logits, labels = random_logits(rng, 60, 2, has_ties=False), rng.integers(0, 2, 60)
    task, top = multiclass(2).with_positive(positive), logits.argmax(axis=1)
    expected = sk.f1_score(labels, top, pos_label=int(positive[1]))
    assert compute_metrics(logits, labels, task)["f1"] == pytest.approx(expected)
    assert expected != pytest.approx(sk.f1_score(labels, top, pos_label=1 - int(positive[1])))
    others = {name: compute_metrics(logits, labels, found) for name, found in (("a", task), ("b", multiclass(2)))}
    assert {**others["a"], "f1": 0} == {**others["b"], "f1": 0}


def test_vqa_accuracy_counts_the_people_who_gave_the_answer():
    """Ten people a question; an answer is right as far as three of them gave it (Antol et al. 2015)."""
    classes = ("yes", "no", "2", "red")
    people = (["yes"] * 9 + ["no"], ["2"] * 2 + ["3"] * 8, ["red"] * 3 + ["blue"] * 7, ["no"] * 10, ["yes"] * 10)
    answers = ("no", "2", "red", "no", "2")  # the model's
    labels = np.array([[min(given.count(name) / 3, 1) for name in classes] for given in people], dtype=np.float32)
    logits = np.array([[float(name == answer) for name in classes] for answer in answers])
    found = compute_metrics(logits, labels, Task("multilabel", classes))
    assert found["vqa_accuracy"] == pytest.approx((1 / 3 + 2 / 3 + 1 + 1 + 0) / 5)


@pytest.mark.parametrize("shape", [(50,), (50, 1)])
def test_regression_against_scikit_learn(shape):
    rng = np.random.default_rng(0)
    outputs, labels = rng.normal(size=(2, 50)).astype(np.float32)
    expected = {"rmse": sk.root_mean_squared_error(labels, outputs), "mae": sk.mean_absolute_error(labels, outputs)}
    assert compute_metrics(outputs.reshape(shape), labels, REGRESSION) == pytest.approx(expected, rel=1e-5)


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
    assert list(found) == [row.name for row in metrics_of(task) if row.function is not None]
    assert all(type(value) is float and 0 <= value <= 1 for value in found.values())
    assert found["auroc"] == 0.5  # one kind only, everywhere


def test_a_row_is_all_that_a_metric_is():
    assert all(name == row.name and row.about and row.unit and row.kinds for name, row in METRICS.items())
    for task in (multiclass(2), multiclass(3), multilabel(1), multilabel(2), REGRESSION):
        assert metrics_of(task)[0].function is not None and METRICS["loss"] in metrics_of(task)
        has = {f"val_{row.name}" for row in METRICS.values() if task.kind in row.kinds and not row.is_ranking}
        assert {*objective_names(task)} == has - (set() if task in (multiclass(2), multilabel(1)) else {"val_f1"})
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
        expected = 1 / (1 + value) if name in ("rmse", "mae", "hamming_loss") else value
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
