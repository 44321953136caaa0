"""Whether probabilities mean what they say: the expected calibration error (Guo et al. 2017, eq. 3).

N samples, C classes, M bins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.figures import COLOURS, INK, new_figure
from trainables.task import Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS = 15


def confidences(labels: np.ndarray, probabilities: np.ndarray, task: Task) -> tuple[np.ndarray, np.ndarray]:
    """What is judged: probabilities, and whether each came true.

    Of one class a sample the N largest probabilities and whether that class is right; of a multi-label task all
    N x C and whether the sample has the class.
    """
    if task.kind == "multilabel":
        return probabilities.reshape(-1), labels.reshape(-1) > 0.5
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == labels


def reliability(confidence: np.ndarray, is_right: np.ndarray, *, bins: int = BINS) -> pd.DataFrame:
    """A row for each of M bins of equal width, (low, high]: low, high, count, confidence and accuracy (means).

    Args:
        confidence: in [0, 1].
        is_right: bool, one each.
        bins: M.
    """
    edges = np.linspace(0, 1, bins + 1)
    at = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(at, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(at, weights=values, minlength=bins) / count for values in (confidence, is_right)]
    return pd.DataFrame(
        {"low": edges[:-1], "high": edges[1:], "count": count, "confidence": means[0], "accuracy": means[1]}
    )


def calibration_error(table: pd.DataFrame) -> float:
    """ECE: the mean over samples of |accuracy - confidence| of their bin, from :func:`reliability`."""
    used = table.loc[table["count"] > 0]
    return float(np.average((used["accuracy"] - used["confidence"]).abs(), weights=used["count"]))


def reliability_figure(table: pd.DataFrame) -> Figure:
    """Accuracy by confidence; a perfect model lies on the diagonal, the number of samples is below."""
    used = table.loc[table["count"] > 0]
    figure, (axes,) = new_figure(1)
    figure.set_size_inches(5.2, 4.6)
    axes.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle=":")
    axes.bar(used["low"], used["accuracy"], width=1 / len(table), align="edge", color=COLOURS[0], edgecolor="white")
    for low, accuracy, count in zip(used["low"], used["accuracy"], used["count"], strict=True):
        axes.text(low + 0.5 / len(table), accuracy + 0.01, str(count), ha="center", fontsize=7, color=INK)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.08)
    axes.set_xlabel("Confidence")
    axes.set_ylabel("Accuracy")
    axes.set_title(f"Expected calibration error {calibration_error(table):.4f}", fontsize=10, color=INK)
    return figure
