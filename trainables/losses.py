"""The supervised loss of each kind of task and its class weights (docs/methods.md#learning).

Every mean is a plain mean over samples, also of the weighted cross-entropy. It therefore decomposes: the
sample-weighted mean over ranks or micro-batches is the loss of the whole batch. torch's weighted mean, which
divides by the sum of the weights that happen to be in the batch, does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.config import LossConfig
from trainables.task import Task

_LABEL_ROWS = 10_000  # looked at together


def supervised_loss(
    logits: Tensor,
    labels: Tensor,
    task: Task,
    *,
    label_smoothing: float = 0.0,
    pos_weight: Tensor | None = None,
    class_weight: Tensor | None = None,
    reduction: Literal["mean", "none"] = "mean",
) -> Tensor:
    """Cross-entropy, binary cross-entropy (mean over classes) or squared error, in float32.

    Args:
        logits: (B, C); a regression also takes (B,).
        labels: (B,) int64 multi-class, (B, C) in [0, 1] multi-label, (B,) or (B, 1) regression.
        task: chooses the loss.
        label_smoothing: share of the target spread evenly over all classes; multi-class only.
        pos_weight: (C,), multiplies the positive term of each class; multi-label only.
        class_weight: (C,), multiplies the loss of each sample by its label's entry; multi-class only.
        reduction: 'mean' over samples, or 'none' for one value a sample.

    Returns:
        A scalar, or (B,).

    Raises:
        ValueError: a setting that this kind of task would ignore.
    """
    if task.kind != "multiclass" and (label_smoothing != 0 or class_weight is not None):
        raise ValueError(f"loss: label_smoothing and class_weight belong to multiclass tasks, this is {task.kind}")
    if task.kind != "multilabel" and pos_weight is not None:
        raise ValueError(f"loss: pos_weight belongs to multilabel tasks, this is {task.kind}")
    logits = logits.float()
    if task.kind == "multiclass":
        loss_B = F.cross_entropy(logits, labels, label_smoothing=label_smoothing, reduction="none")
        if class_weight is not None:
            loss_B = class_weight[labels] * loss_B
    elif task.kind == "multilabel":
        assert logits.shape == labels.shape, f"logits {tuple(logits.shape)}, labels {tuple(labels.shape)}"
        loss_BC = F.binary_cross_entropy_with_logits(logits, labels.float(), pos_weight=pos_weight, reduction="none")
        loss_B = loss_BC.mean(dim=1)
    else:
        assert logits.numel() == labels.numel(), f"logits {tuple(logits.shape)}, labels {tuple(labels.shape)}"
        loss_B = (logits.reshape(-1) - labels.float().reshape(-1)).square()
    return loss_B.mean() if reduction == "mean" else loss_B


def pos_weights(label_counts: Tensor, num_rows: int, cap: float) -> Tensor:
    """min(N / max(n_c, 1), cap) for each class: what one positive of class c counts.

    Args:
        label_counts: (C,), n_c, training rows that carry each label.
        num_rows: N, all training rows.
        cap: the largest weight.

    Returns:
        (C,) float32.
    """
    return (num_rows / label_counts.to(torch.float32).clamp(min=1)).clamp(max=cap)


def class_weights(counts: Tensor) -> Tensor:
    """N / (C max(n_c, 1)) for each class, so that every class that occurs has the same total weight.

    Args:
        counts: (C,), n_c, training rows of each class; they sum to N.

    Returns:
        (C,) float32; with no class empty, its mean over the training rows is 1.
    """
    counts = counts.to(torch.float32)
    return counts.sum() / (len(counts) * counts.clamp(min=1))


@dataclass(frozen=True)
class SupervisedLoss:
    """:func:`supervised_loss` as one trial has it: with its smoothing and the weights of its training rows."""

    task: Task
    label_smoothing: float = 0.0
    pos_weight: Tensor | None = None
    class_weight: Tensor | None = None

    def __call__(self, logits: Tensor, labels: Tensor, *, is_smoothed: bool = True) -> Tensor:
        """The mean over samples; evaluation leaves the smoothing out, and as a metric also the weights.

        The metric is :func:`supervised_loss` by itself: weights that a search may choose would rank trials by
        themselves.
        """
        return supervised_loss(
            logits, labels, self.task, label_smoothing=self.label_smoothing if is_smoothed else 0.0,
            pos_weight=self.pos_weight, class_weight=self.class_weight,
        )  # fmt: skip


def build_supervised_loss(
    config: LossConfig, task: Task, *, labels: np.ndarray, rows: np.ndarray, device: torch.device
) -> SupervisedLoss:
    """The loss whose weights, where the task has them, are counted over the training rows.

    Args:
        config: smoothing, and which weights.
        task: what is predicted.
        labels: of the whole dataset.
        rows: the training rows.
        device: where the weights are needed.

    Raises:
        ValueError: a setting that this kind of task would ignore.
    """
    if task.kind != "multiclass" and (config.label_smoothing != 0 or config.class_weight):
        name = "class_weight" if config.class_weight else "label_smoothing"
        raise ValueError(f"loss.{name}: belongs to multiclass tasks, this is {task.kind}")
    pos_weight = class_weight = None
    if task.kind == "multilabel" and config.pos_weight:
        parts = [rows[at : at + _LABEL_ROWS] for at in range(0, len(rows), _LABEL_ROWS)]  # thousands of columns?
        counts = torch.from_numpy(sum(labels[part].sum(axis=0) for part in parts))
        pos_weight = pos_weights(counts, len(rows), config.pos_weight_cap).to(device)
    if task.kind == "multiclass" and config.class_weight:
        counts = torch.from_numpy(np.bincount(labels[rows], minlength=task.num_outputs))
        class_weight = class_weights(counts).to(device)
    return SupervisedLoss(task, config.label_smoothing, pos_weight, class_weight)
