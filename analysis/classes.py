"""What a classifier gets right and wrong: by class, and which class is taken for which.

N samples, C classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.figures import INK, new_figure, plain
from trainables.task import Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DRAWN = 40  # classes in a picture


def predicted(logits: np.ndarray, task: Task) -> np.ndarray:
    """(N, C) bool: the likeliest class, of a multi-label task all with a probability above one half."""
    if task.kind == "multilabel":
        return logits > 0
    return logits.argmax(axis=1)[:, None] == np.arange(len(task.classes))


def truth(labels: np.ndarray, task: Task) -> np.ndarray:
    """(N, C) bool."""
    return labels > 0.5 if task.kind == "multilabel" else labels[:, None] == np.arange(len(task.classes))


def per_class(labels: np.ndarray, logits: np.ndarray, task: Task) -> pd.DataFrame:
    """A row a class: class, precision, recall, f1, support (samples of it) and predicted (samples taken for it).

    Precision of a class that is never predicted, recall of one without samples, and F1 of one without both are
    missing.

    Args:
        labels: (N,) class numbers, or (N, C) multi-label.
        logits: (N, C).
        task: not a regression.
    """
    is_true, is_predicted = truth(labels, task), predicted(logits, task)
    right = (is_true & is_predicted).sum(axis=0).astype(float)
    support, taken = is_true.sum(axis=0), is_predicted.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return pd.DataFrame(
            {
                "class": task.classes,
                "precision": right / taken,
                "recall": right / support,
                "f1": 2 * right / (support + taken),
                "support": support,
                "predicted": taken,
            }
        )


def confusion(labels: np.ndarray, logits: np.ndarray, task: Task) -> pd.DataFrame:
    """One class a sample: counts with a row for each true class and a column for each predicted one.

    Of a multi-label task a row a class with the columns true_positives, false_positives, false_negatives and
    true_negatives.
    """
    is_true, is_predicted = truth(labels, task), predicted(logits, task)
    if task.kind == "multilabel":
        counts = {
            "true_positives": is_true & is_predicted,
            "false_positives": ~is_true & is_predicted,
            "false_negatives": is_true & ~is_predicted,
            "true_negatives": ~is_true & ~is_predicted,
        }
        return pd.DataFrame({name: cells.sum(axis=0) for name, cells in counts.items()}, index=_index(task, "class"))
    counts = is_true.astype(np.int64).T @ is_predicted.astype(np.int64)
    return pd.DataFrame(counts, index=_index(task, "true"), columns=pd.Index(task.classes))


def _index(task: Task, name: str) -> pd.Index:
    return pd.Index(task.classes, name=name)


def confusion_figure(table: pd.DataFrame) -> Figure:
    """The confusion matrix of one class a sample, each row as shares of its class; of many classes the commonest."""
    counts = table.to_numpy(float)
    order = np.sort(np.argsort(-counts.sum(axis=1), kind="stable")[:_DRAWN])
    names = [str(table.index[at]) for at in order]
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)[np.ix_(order, order)]
    figure, (axes,) = new_figure(1)
    side = max(4.0, 2.2 + 0.28 * len(order))
    figure.set_size_inches(side + 0.8, side)
    axes.grid(visible=False)
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(order))
    axes.set_xticks(ticks, [plain(name) for name in names], rotation=90)
    axes.set_yticks(ticks, [plain(name) for name in names])
    few = "" if len(order) == len(table) else f"\nthe {len(order)} commonest of {len(table)} classes"
    axes.set_xlabel("Predicted" + few)
    axes.set_ylabel("True")
    if len(order) <= 15:
        for row in ticks:
            for column in ticks:
                count = int(counts[order[row], order[column]])
                if count:
                    colour = "white" if shares[row, column] > 0.6 else INK
                    axes.text(column, row, str(count), ha="center", va="center", fontsize=8, color=colour)
    figure.colorbar(drawn, ax=axes, shrink=0.8, label="Share of the true class")
    return figure
