import math
from typing import Any

import numpy as np
import pytest
import torch

from trainables.losses import class_weights, pos_weights, supervised_loss
from trainables.task import Task

THREE = ("a", "b", "c")
MULTICLASS, MULTILABEL, REGRESSION = Task("multiclass", THREE), Task("multilabel", THREE), Task("regression")


def random_case(kind: str, num_rows: int = 6):
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=2, size=(num_rows, 1 if kind == "regression" else 3))
    labels = {
        "multiclass": rng.integers(0, 3, num_rows),
        "multilabel": rng.integers(0, 2, (num_rows, 3)).astype(np.float32),
        "regression": rng.normal(size=num_rows).astype(np.float32),
    }[kind]
    return logits, labels


def test_uniform_logits_cost_the_log_of_the_number_of_classes():
    logits, labels = torch.zeros(4, 3), torch.tensor([0, 1, 2, 0])
    assert supervised_loss(logits, labels, MULTICLASS).item() == pytest.approx(math.log(3))
    assert supervised_loss(logits, torch.eye(3)[labels], MULTILABEL).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_sample_by_sample(smoothing, weighted):
    logits, labels = random_case("multiclass")
    weights = np.array([0.5, 3.0, 1.0]) if weighted else np.ones(3)
    expected = []
    for row, label in zip(logits, labels, strict=True):
        log_p = row - np.log(np.exp(row).sum())
        target = np.full(3, smoothing / 3)
        target[label] += 1 - smoothing
        expected.append(-weights[label] * (target * log_p).sum())
    given: dict[str, Any] = {"label_smoothing": smoothing, "class_weight": torch.tensor(weights) if weighted else None}
    tensors = torch.tensor(logits, dtype=torch.float32), torch.tensor(labels)
    each = supervised_loss(*tensors, MULTICLASS, **given, reduction="none")
    assert each.shape == (6,) and each.numpy() == pytest.approx(np.array(expected), rel=1e-5)
    assert supervised_loss(*tensors, MULTICLASS, **given).item() == pytest.approx(np.mean(expected), rel=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
def test_binary_cross_entropy_is_a_mean_over_classes_with_weighted_positives(weighted):
    logits, labels = random_case("multilabel")
    weights = np.array([4.0, 1.0, 0.25]) if weighted else np.ones(3)
    p = 1 / (1 + np.exp(-logits))
    expected = -(weights * labels * np.log(p) + (1 - labels) * np.log(1 - p)).mean(axis=1)
    given: dict[str, Any] = {"pos_weight": torch.tensor(weights, dtype=torch.float32)} if weighted else {}
    each = supervised_loss(torch.tensor(logits), torch.tensor(labels), MULTILABEL, **given, reduction="none")
    assert each.numpy() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("shape", [(6,), (6, 1)])
def test_squared_error_never_broadcasts(shape):
    logits, labels = random_case("regression")
    expected = np.square(logits[:, 0] - labels)
    prediction = torch.tensor(logits, dtype=torch.float32).reshape(shape)
    each = supervised_loss(prediction, torch.tensor(labels), REGRESSION, reduction="none")
    assert each.numpy() == pytest.approx(expected, rel=1e-5)
    assert supervised_loss(prediction, torch.tensor(labels), REGRESSION).item() == pytest.approx(expected.mean())


@pytest.mark.parametrize(
    ("task", "given"),
    [
        (MULTICLASS, {"class_weight": torch.tensor([0.1, 5.0, 1.0]), "label_smoothing": 0.1}),
        (MULTILABEL, {"pos_weight": torch.tensor([0.1, 5.0, 1.0])}),
        (REGRESSION, {}),
    ],
)
def test_weighted_means_of_parts_are_the_loss_of_the_whole(task, given):
    logits, labels = (torch.tensor(value) for value in random_case(task.kind, num_rows=7))
    whole = supervised_loss(logits, labels, task, **given)
    parts = [(a, b, supervised_loss(logits[a:b], labels[a:b], task, **given)) for a, b in ((0, 1), (1, 5), (5, 7))]
    assert sum((b - a) / 7 * loss for a, b, loss in parts) == pytest.approx(whole.item(), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_judged_in_float32(dtype):
    logits = torch.tensor([[10.0, -10.0, 3.0]], dtype=dtype, requires_grad=True)
    loss = supervised_loss(logits, torch.tensor([0]), MULTICLASS)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log1p(math.exp(-20) + math.exp(-7)), rel=1e-3)  # half precision: 0
    loss.backward()
    assert logits.grad is not None and logits.grad.isfinite().all()


@pytest.mark.parametrize(
    ("task", "labels", "given"),
    [
        (MULTILABEL, torch.zeros(1, 3), {"label_smoothing": 0.1}),
        (REGRESSION, torch.zeros(1), {"class_weight": torch.ones(1)}),
        (MULTICLASS, torch.tensor([0]), {"pos_weight": torch.ones(3)}),
    ],
)
def test_settings_that_would_be_ignored_are_refused(task, labels, given):
    with pytest.raises(ValueError, match=f"this is {task.kind}"):
        supervised_loss(torch.zeros(1, task.num_outputs), labels, task, **given)


def test_pos_weights_are_n_over_count_guarded_and_capped():
    weights = pos_weights(torch.tensor([50, 100, 1, 0]), num_rows=100, cap=30)
    assert weights.tolist() == [2.0, 1.0, 30.0, 30.0]
    assert pos_weights(torch.tensor([0, 1]), num_rows=100, cap=1e9).tolist() == [100.0, 100.0]


def test_class_weights_give_every_class_the_same_total():
    counts = torch.tensor([10, 30, 60])
    weights = class_weights(counts)
    assert (weights * counts).tolist() == pytest.approx([100 / 3] * 3)
    assert weights.tolist() == pytest.approx([100 / 30, 100 / 90, 100 / 180])
    assert class_weights(torch.tensor([0, 4])).isfinite().all()
