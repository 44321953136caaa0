"""Labels as a reader has them, by row, to a Target. None is a row without a label."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from trainables.data.reading.table import Target
from trainables.task import Task


def multiclass(values: Sequence[str | None], classes: Sequence[str] | None = None) -> Target:
    """One class a row; -1 where there is none.

    Args:
        values: class names.
        classes: their order; None sorts those that there are.

    Raises:
        ValueError: fewer than two classes.
    """
    names = sorted({value for value in values if value is not None}) if classes is None else list(classes)
    if len(names) < 2:
        raise ValueError(f"all labelled rows are {names[0]!r}" if names else "no row has a label")
    index: dict[str | None, int] = {name: at for at, name in enumerate(names)} | {None: -1}
    labels = np.fromiter((index[value] for value in values), np.int64, len(values))
    return Target(task=Task(kind="multiclass", classes=tuple(names)), labels=labels, is_labelled=labels >= 0)


def multilabel(values: Sequence[Collection[str] | None], classes: Sequence[str] | None = None) -> Target:
    """Any number of classes a row.

    Args:
        values: class names; with ``classes``, others are ignored.
        classes: their order; None sorts those that there are.

    Raises:
        ValueError: no class at all.
    """
    names = sorted({name for row in values for name in row or ()}) if classes is None else list(classes)
    if not names:
        raise ValueError("no row has a label")
    index = {name: at for at, name in enumerate(names)}
    labels = np.zeros((len(values), len(names)), np.float32)
    for at, row in enumerate(values):
        labels[at, [index[name] for name in row or () if name in index]] = 1
    is_labelled = np.array([row is not None for row in values], bool)
    return Target(task=Task(kind="multilabel", classes=tuple(names)), labels=labels, is_labelled=is_labelled)


def regression(values: Sequence[float | None] | np.ndarray) -> Target:
    """One number a row; NaN where there is none."""
    labels = np.array([np.nan if value is None else value for value in values], np.float64)
    return Target(task=Task(kind="regression"), labels=labels, is_labelled=~np.isnan(labels))
